"""What may still be among the best of a user: kept with bounds, thinned by them."""

from __future__ import annotations

from numba import njit


@njit(cache=True, nogil=True)
def kth_largest(values, count, k, scratch):  # type: ignore[no-untyped-def]
    """The ``k``-th largest of ``values[:count]``, by partitions without branches.

    It ends whatever the values are; among NaN there is no such value, and any is returned.
    """
    for place in range(count):
        scratch[place] = values[place]
    low, high, wanted = 0, count, k - 1
    while high - low > 1:
        first, middle, last = scratch[low], scratch[(low + high) >> 1], scratch[high - 1]
        pivot = max(min(first, middle), min(max(first, middle), last))
        above = low
        for place in range(low, high):
            value = scratch[place]
            scratch[place] = scratch[above]
            scratch[above] = value
            above += int(value > pivot)
        if wanted < above:
            high = above
            continue
        level = above
        for place in range(above, high):
            value = scratch[place]
            scratch[place] = scratch[level]
            scratch[level] = value
            level += int(value == pivot)
        if wanted < level:
            return pivot
        # NaN is not even equal to itself: without a step of its own the range would stay.
        low = max(level, low + 1)
    return scratch[wanted]


@njit(cache=True, nogil=True)
def thin(positions, lower, upper, count, k, bar, scratch):  # type: ignore[no-untyped-def]
    """Leave out candidates that cannot be among the ``k`` best.

    Args:
        positions: Of a user's candidates in the order of the index, ``[C]``; changed.
        lower: Least score of each; changed.
        upper: Most; changed.
        count: How many there are.
        k: Wanted.
        bar: Least score of ``k`` candidates that are known; -inf while there are fewer.
        scratch: ``[C]``.

    Returns:
        How many are left, and the bar.
    """
    if count < k:
        return count, bar
    bar = max(bar, kth_largest(lower, count, k, scratch))
    left = 0
    for place in range(count):
        if upper[place] >= bar:
            positions[left] = positions[place]
            lower[left], upper[left] = lower[place], upper[place]
            left += 1
    return left, bar
