"""Compiled loops that several methods share.

Loops run over one user after the other, in one order of summation that depends on nothing but the
user's own pool: a list is the same to the bit whatever the batch. The loops that count run over the
candidates, so that they vectorise without sums being reordered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

from metarec_core.episodes.types import FloatArray, IntArray

DoubleArray = npt.NDArray[np.float64]
Kernel = TypeVar("Kernel", bound=Callable[..., object])


def compiled(function: Kernel) -> Kernel:
    """Machine code of a function, cached on disk, that lets other threads run beside it.

    The cache follows the file of the function alone: after a change to a loop of this module remove
    the ``*.nbi`` beside it.
    """
    return cast(Kernel, njit(cache=True, nogil=True)(function))


_FLAT = 1e-12
"""Sd below which all candidates of a pool are alike, relative to their largest value."""


@compiled
def standardise(values: DoubleArray, counts: IntArray) -> tuple[DoubleArray, DoubleArray]:
    """Mean 0 and sd 1 within each pool.

    Args:
        values: ``[B, P]``; only the first ``counts`` of a row are read.
        counts: Candidates of each pool, ``[B]``.

    Returns:
        ``[B, P]``, 0 beyond the pool and where all candidates are alike, and the sd of each pool,
        ``[B]``, 1 where all are alike.
    """
    standard = np.zeros(values.shape)
    sds = np.ones(len(values))
    for row in range(len(values)):
        n = counts[row]
        if n == 0:
            continue
        total, largest = 0.0, 0.0
        for place in range(n):
            total += values[row, place]
            largest = max(largest, abs(values[row, place]))
        mean, squares = total / n, 0.0
        for place in range(n):
            squares += (values[row, place] - mean) ** 2
        sd = np.sqrt(squares / n)
        if sd > _FLAT * largest:
            sds[row] = sd
            for place in range(n):
                standard[row, place] = (values[row, place] - mean) / sd
    return standard, sds


@compiled
def gather(vectors: FloatArray, items: IntArray, n: int, table: npt.NDArray[np.floating]) -> None:
    """Vectors of a pool, candidates last.

    Args:
        vectors: Of the catalogue, ``[I, d]``.
        items: The pool, ``[P]``, of which the first ``n`` are read.
        n: Candidates.
        table: Written, ``[d, P]``, in whatever precision.
    """
    for place in range(n):
        row = vectors[items[place]]
        for column in range(len(row)):
            table[column, place] = row[column]


@compiled
def products(
    table: npt.NDArray[np.floating], chosen: int, n: int, out: npt.NDArray[np.floating]
) -> None:
    """Inner products of one candidate with all.

    Args:
        table: Vectors of the pool, ``[d, P]``.
        chosen: The candidate.
        n: Candidates.
        out: Written, ``[P]``.
    """
    dim = table.shape[0]
    fours = dim - dim % 4
    for place in range(n):
        out[place] = 0.0
    # Four rows a pass: the sums are read and written a quarter as often.
    for row in range(0, fours, 4):
        a, b = table[row, chosen], table[row + 1, chosen]
        c, d = table[row + 2, chosen], table[row + 3, chosen]
        for place in range(n):
            out[place] += (
                a * table[row, place]
                + b * table[row + 1, place]
                + c * table[row + 2, place]
                + d * table[row + 3, place]
            )
    for row in range(fours, dim):
        a = table[row, chosen]
        for place in range(n):
            out[place] += a * table[row, place]


@compiled
def first_largest(values: DoubleArray, n: int) -> int:
    """Place of the largest of the first ``n`` values; of equals the first."""
    best = 0
    for place in range(1, n):
        if values[place] > values[best]:
            best = place
    return best
