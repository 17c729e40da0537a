"""The scores that decide: float64 products in one order of summation, on every device.

Element ``j`` of a product goes to lane ``j mod 8``; a lane is summed from its first element to its
last, the eight lanes in pairs, and the item's appeal comes last. No two operations are fused. A
matrix kernel gives other last bits for other shapes; these are always the same.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit
from torch import Tensor
from torch.nn import functional

LANES = 8

BoolArray = npt.NDArray[np.bool_]
DoubleArray = npt.NDArray[np.float64]


def padded(vectors: Tensor) -> Tensor:
    """Vectors ``[N, d]`` with zeros up to the next multiple of the lanes, at least one."""
    width = max(-(-vectors.shape[1] // LANES), 1) * LANES
    return functional.pad(vectors, (0, width - vectors.shape[1]))


def exact_scores(queries: Tensor, vectors: Tensor, appeal: Tensor, items: Tensor) -> Tensor:
    """Scores of some items, by tensor operations.

    Args:
        queries: ``[B, d]`` float64, padded.
        vectors: Of all items, ``[I, d]``, padded.
        appeal: Of all items, ``[I]`` float64.
        items: Catalogue indices, ``[B, M]``.

    Returns:
        ``[B, M]`` float64.
    """
    products = queries[:, None, :] * vectors[items].double()
    lanes = products[..., :LANES].clone()
    for start in range(LANES, products.shape[-1], LANES):
        lanes += products[..., start : start + LANES]
    while lanes.shape[-1] > 1:
        lanes = lanes[..., 0::2] + lanes[..., 1::2]
    return lanes.squeeze(-1) + appeal[items]


@njit(cache=True, nogil=True)
def exact_score(query, vector, appeal, lanes):  # type: ignore[no-untyped-def]
    """The same for one item: ``query`` and ``vector`` ``[d]`` padded, ``lanes`` ``[8]`` scratch."""
    for lane in range(8):
        lanes[lane] = 0.0
    for block in range(query.shape[0] // 8):
        left = query[8 * block : 8 * block + 8]
        right = vector[8 * block : 8 * block + 8]
        for lane in range(8):
            lanes[lane] += left[lane] * np.float64(right[lane])
    low = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])
    high = (lanes[4] + lanes[5]) + (lanes[6] + lanes[7])
    return (low + high) + appeal


@njit(cache=True, nogil=True)
def put(score, item, count, items, scores):  # type: ignore[no-untyped-def]
    """Put an entry in its place among the ``count`` best, best first and equal ones by index.

    Args:
        score: Of the entry.
        item: Its catalogue index.
        count: Entries that there are.
        items: Their indices, ``[K]``.
        scores: Their scores, ``[K]``.

    Returns:
        Entries that there are now, at most ``K``.
    """
    place = count
    if count == len(items):
        last = count - 1
        if score < scores[last] or (score == scores[last] and item > items[last]):
            return count
        place = last
        count = last
    while place > 0 and (
        scores[place - 1] < score or (scores[place - 1] == score and items[place - 1] > item)
    ):
        scores[place], items[place] = scores[place - 1], items[place - 1]
        place -= 1
    scores[place], items[place] = score, item
    return count + 1


@njit(cache=True, nogil=True)
def exhaustive(  # type: ignore[no-untyped-def]
    rows, queries, vectors, appeal, open_items, indptr, closed, steps, items, scores
):
    """The best of *all* open items, for the few users of whom bounds leave too many or tell none.

    Args:
        rows: Users to search for, ``[R]``; rows of all that follows.
        queries: ``[U, d]`` float64, padded.
        vectors: ``[I, d]``, padded.
        appeal: ``[I]`` float64.
        open_items: Catalogue indices that may be found, ascending.
        indptr: Row boundaries of the closed items, ``[U + 1]``.
        closed: Closed items.
        steps: Steps a unit of the grid that scores lie on; 0 for none.
        items: Written: the best, ``[U, K]``; -1 where there are fewer.
        scores: Written: their scores; -inf there. NaN all along the row of a user to whom a score
            is not finite.
    """
    shut = np.zeros(len(vectors), dtype=np.bool_)
    lanes = np.zeros(8)
    for row in rows:
        for place in range(indptr[row], indptr[row + 1]):
            shut[closed[place]] = True
        count, filler = 0, -np.inf
        for item in open_items:
            if shut[item]:
                continue
            score = exact_score(queries[row], vectors[item], appeal[item], lanes)
            if steps > 0.0:
                score = np.round(score * steps) / steps
            if not np.isfinite(score):
                count, filler = 0, np.nan
                break
            count = put(score, item, count, items[row], scores[row])
        for place in range(count, items.shape[1]):
            items[row, place], scores[row, place] = -1, filler
        for place in range(indptr[row], indptr[row + 1]):
            shut[closed[place]] = False
