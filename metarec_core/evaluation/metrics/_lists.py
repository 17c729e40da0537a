"""Lists of different lengths as one array, -1 behind the last entry."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from metarec_core.episodes.types import IntArray

DoubleArray = npt.NDArray[np.float64]


def of_items(table: npt.NDArray[np.floating[Any]], lists: IntArray) -> DoubleArray:
    """Rows of a table for each entry of each list, in float64; 0 where there is no entry.

    Args:
        table: ``[I]`` or ``[I, d]``.
        lists: Catalogue indices, ``[U, K]``; -1 where a list is shorter.

    Returns:
        ``[U, K]`` or ``[U, K, d]``.
    """
    there = lists >= 0
    rows = np.zeros((*lists.shape, *table.shape[1:]))
    rows[there] = table[lists[there]]
    return rows


def mean_over_list(figures: DoubleArray, lists: IntArray) -> DoubleArray:
    """Mean of the real entries of each list, ``[U]``; NaN for an empty one.

    Args:
        figures: ``[U, K]``, 0 where there is no entry.
        lists: Catalogue indices, ``[U, K]``; -1 where a list is shorter.
    """
    n = (lists >= 0).sum(axis=1)
    return ratio(figures.sum(axis=1), n)


def ratio(above: npt.NDArray[np.number[Any]], below: npt.NDArray[np.number[Any]]) -> DoubleArray:
    """``above / below``, NaN where ``below`` is not positive; the two broadcast."""
    out = np.full(np.broadcast_shapes(above.shape, below.shape), np.nan)
    np.divide(above, below, out=out, where=below > 0)
    return out
