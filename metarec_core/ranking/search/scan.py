"""The loops of the search on a CPU: over products of integers, with bounds on what they leave out.

A product of integers, times the scales of its two vectors, is a score but for an error of at most
``|u'| |v - v'| + |u - u'| |v|`` (``u'``, ``v'`` the rounded vectors; Cauchy and Schwarz). Whatever
may be among the K best by that is kept; nothing else is.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from metarec_core.ranking.search.candidates import thin

GROUP = 64
"""Items that share one bound of the error."""

LANES = 32
"""Items that are compared with a threshold at once: a bit each of one integer."""

BITS = (1 << np.arange(LANES)).astype(np.uint32).view(np.int32)

_ALL_BITS = np.uint64(0xFFFFFFFF)
_DE_BRUIJN = np.uint64(0x077CB531)
_PLACE_OF_BIT = np.zeros(LANES, dtype=np.int64)
_PLACE_OF_BIT[[((1 << bit) * 0x077CB531 & 0xFFFFFFFF) >> 27 for bit in range(LANES)]] = range(LANES)
"""Where the only bit of a power of two is, by its product with a de Bruijn sequence."""

SPARE = 32
"""Candidates beyond twice the wanted ones before they are thinned."""

SHUT = np.int32(-(2**31))
"""What a product is overwritten with where its item is closed; no product is so small."""

ROUNDING = np.float32(1e-6)
"""Error of the few float32 operations of a score, of its size: some units of 2**-24, rounded up."""


@njit(cache=True, nogil=True)
def _keep(  # type: ignore[no-untyped-def]
    reached,
    products,
    row,
    start,
    scale,
    appeal,
    unit,
    margin,
    step,
    first,
    positions,
    lower,
    upper,
    user,
    count,
    bars,
    limits,
    k,
    scratch,
):
    """Take the items that reached the threshold among a user's candidates.

    It is given whole arrays: to make a slice for a call counts references, which would cost more
    than the comparisons even where nothing is kept.

    Returns:
        How many there are now; more than there is room for where too many may be among the best.
    """
    capacity = positions.shape[1]
    left = np.uint32(reached)
    while left != 0:
        lowest = left & (~left + np.uint32(1))
        left ^= lowest
        lane = _PLACE_OF_BIT[((np.uint64(lowest) * _DE_BRUIJN) & _ALL_BITS) >> np.uint64(27)]
        column = start + lane
        value = products[row, column]
        if value == SHUT:
            continue
        score = np.float32(value) * (scale[column] * unit) + appeal[column]
        # A bar that has risen meanwhile; or padding, while there is no bar.
        if score < np.float32(bars[user] - margin - step) or score == -np.inf:
            continue
        if count == limits[user]:
            count, bars[user] = thin(
                positions[user], lower[user], upper[user], count, k, bars[user], scratch
            )
            if count == capacity:
                return capacity + 1
            limits[user] = min(2 * max(count, k) + SPARE, capacity)
            if score < np.float32(bars[user] - margin - step):
                continue
        positions[user, count] = first + column
        lower[user, count], upper[user, count] = score - margin, score + margin + step
        count += 1
    return count


@njit(cache=True, nogil=True)
def scan(  # type: ignore[no-untyped-def]
    products,
    rows,
    first,
    scale,
    appeal,
    norms,
    errors,
    appeals,
    user_scale,
    user_norm,
    user_rounded,
    user_error,
    shut_ptr,
    shut_at,
    block,
    step,
    positions,
    lower,
    upper,
    counts,
    bars,
    limits,
    overflow,
    k,
    scratch,
):
    """Keep what may be among the ``k`` best of one block of items.

    Args:
        products: Products of integers, ``[R, N]`` int32, ``N`` a multiple of the group; closed
            ones are overwritten.
        rows: The user of each row, ``[R]``; all that begins with ``user``, and the candidates,
            are by user.
        first: Position of the block's first item in the order of the index.
        scale: Scale of each item, ``[N]`` float32.
        appeal: Of each item, ``[N]`` float32; -inf at padding.
        norms: Largest norm of each group, ``[N / GROUP]`` float32, rounded up.
        errors: Largest norm of what rounding took from a vector of each group.
        appeals: Largest size of an appeal of each group.
        user_scale: ``[U]`` float32.
        user_norm: Norm of the query.
        user_rounded: Norm of the rounded query.
        user_error: Norm of what rounding took.
        shut_ptr: Where the closed items of each user and block begin, ``[U, blocks + 1]``.
        shut_at: Their positions.
        block: Number of the block.
        step: Step of the grid that scores lie on; 0 for none. Candidates within one of the bar
            may tie.
        positions: Candidates, ``[U, C]``.
        lower: Least score of each.
        upper: Most.
        counts: How many there are, ``[U]``.
        bars: Least score that a candidate must be able to reach, ``[U]``.
        limits: How many candidates are thinned next, ``[U]``: early while the bar is low, as every
            candidate that it lets through costs more than thinning.
        overflow: Set where more than ``C`` may be among the best, ``[U]``.
        k: Wanted.
        scratch: ``[C]`` float32.
    """
    for row in range(rows.shape[0]):
        user = rows[row]
        if overflow[user]:
            continue
        for place in range(shut_ptr[user, block], shut_ptr[user, block + 1]):
            products[row, shut_at[place] - first] = SHUT
        unit, count = user_scale[user], counts[user]
        for group in range(products.shape[1] // GROUP):
            margin = (
                user_rounded[user] * errors[group]
                + user_error[user] * norms[group]
                + ROUNDING * (user_norm[user] * norms[group] + appeals[group])
            )
            threshold = np.float32(bars[user] - margin - step)
            for start in range(group * GROUP, (group + 1) * GROUP, LANES):
                values = products[row, start : start + LANES]
                scales, appealing = scale[start : start + LANES], appeal[start : start + LANES]
                # A loop of fixed length without branches: it becomes a few vector instructions.
                reached = np.int32(0)
                for lane in range(32):
                    reached |= BITS[lane] * np.int32(
                        np.float32(values[lane]) * (scales[lane] * unit) + appealing[lane]
                        >= threshold
                    )
                if reached == 0:
                    continue
                count = _keep(
                    reached,
                    products,
                    row,
                    start,
                    scale,
                    appeal,
                    unit,
                    margin,
                    step,
                    first,
                    positions,
                    lower,
                    upper,
                    user,
                    count,
                    bars,
                    limits,
                    k,
                    scratch,
                )
                if count > positions.shape[1]:
                    overflow[user] = True
                    break
                threshold = np.float32(bars[user] - margin - step)
            if overflow[user]:
                break
        if not overflow[user] and count - counts[user] >= k:
            count, bars[user] = thin(
                positions[user], lower[user], upper[user], count, k, bars[user], scratch
            )
        counts[user] = count


@njit(cache=True, nogil=True)
def by_block(indptr, closed, position, width, shut_ptr, shut_at):  # type: ignore[no-untyped-def]
    """Sort each user's closed items into blocks.

    Args:
        indptr: Row boundaries, ``[U + 1]``, from 0.
        closed: Closed items.
        position: Of each catalogue index in the order of the index; -1 where it is not in it.
        width: Items a block.
        shut_ptr: Written: where each user's positions of each block begin, ``[U, blocks + 1]``.
        shut_at: Written: the positions.
    """
    blocks, written = shut_ptr.shape[1] - 1, 0
    for user in range(shut_ptr.shape[0]):
        starts = shut_ptr[user]
        starts[:] = 0
        for place in range(indptr[user], indptr[user + 1]):
            at = position[closed[place]]
            if at >= 0:
                starts[at // width + 1] += 1
        starts[0] = written
        for block in range(blocks):
            starts[block + 1] += starts[block]
        for place in range(indptr[user], indptr[user + 1]):
            at = position[closed[place]]
            if at >= 0:
                shut_at[starts[at // width]] = at
                starts[at // width] += 1
        for block in range(blocks, 0, -1):
            starts[block] = starts[block - 1]
        starts[0] = written
        written = starts[blocks]
