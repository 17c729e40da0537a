"""A determinantal point process: the set whose vectors span the most, weighed by relevance."""

from __future__ import annotations

import math

import numpy as np

from metarec_core.episodes.types import FloatArray, IntArray
from metarec_core.ranking.diversity.compiled import DoubleArray, compiled, gather, products
from metarec_core.ranking.diversity.method import Method, Request

FLOOR = 1e-6
"""What is left of an item that the shown ones span, at least: float32 vectors know no less. Such
items are ordered by relevance, where the determinant would be 0 whichever came next."""

_LOG_FLOOR = math.log(FLOOR)


def order(request: Request) -> IntArray:
    """Positions of the greedy MAP set of ``L = diag(q) S diag(q)``, in the order of their choice.

    ``q_i = exp((1 - s) / (2 s) z_i)`` and ``S_ij = (1 + cos(v_i, v_j)) / 2``, ``S_ii = 1``, with
    ``s`` the strength and ``z`` the standardised score, so that ``s log det L_Y = (1 - s) sum z
    + s log det S_Y`` (Chen, Zhang & Zhou 2018, "Fast Greedy MAP Inference for Determinantal Point
    Process to Improve Recommendation Diversity", equations 9 and 15). Each place goes to ``argmax_i
    (1 - s) z_i + s log r_i``, ``r_i`` what is left of ``S_ii`` given the shown; an incremental
    Cholesky factor keeps ``r`` in ``O(P (d + K))`` a place.

    Args:
        request: The candidates, ``[B, P]``.

    Returns:
        ``[B, length]`` int64, -1 behind the last candidate.
    """
    return _dpp(
        request.space.vectors,
        request.pool.items,
        request.counts,
        request.standard,
        request.strength,
        request.length,
    )


@compiled
def _dpp(
    vectors: FloatArray,
    items: IntArray,
    counts: IntArray,
    standard: DoubleArray,
    strength: float,
    length: int,
) -> IntArray:
    n_users, width = items.shape
    table = np.empty((vectors.shape[1], width))
    factor = np.empty((length, width))
    part, left, log_left = np.empty(width), np.empty(width), np.empty(width)
    relevance = np.empty(width)
    chosen = np.full((n_users, length), -1)
    for row in range(n_users):
        n = counts[row]
        if n == 0:
            continue
        gather(vectors, items[row], n, table)
        for place in range(n):
            relevance[place] = (1.0 - strength) * standard[row, place]
            left[place], log_left[place] = 1.0, 0.0
        last, rank_of_factor = 0, 0
        chosen[row, 0], relevance[0] = last, -np.inf
        for rank in range(1, min(length, n)):
            # What the shown ones span already takes nothing from the others.
            if left[last] > FLOOR:
                products(table, last, n, part)
                for place in range(n):
                    part[place] = 0.5 + 0.5 * part[place]
                for earlier in range(rank_of_factor):
                    weight = factor[earlier, last]
                    for place in range(n):
                        part[place] -= weight * factor[earlier, place]
                scale = 1.0 / math.sqrt(left[last])
                for place in range(n):
                    part[place] *= scale
                    factor[rank_of_factor, place] = part[place]
                    left[place] -= part[place] * part[place]
                rank_of_factor += 1
            last = _best(relevance, strength, left, log_left, n)
            chosen[row, rank], relevance[last] = last, -np.inf
    return chosen


@compiled
def _best(
    relevance: DoubleArray, strength: float, left: DoubleArray, log_left: DoubleArray, n: int
) -> int:
    """Place of the largest ``relevance + strength log left``, of equals the first.

    What is left only shrinks: an old logarithm is an upper bound, and most need not be taken anew.
    """
    best, highest = 0, -np.inf
    for place in range(n):
        if relevance[place] + strength * log_left[place] <= highest:
            continue
        log_left[place] = math.log(left[place]) if left[place] > FLOOR else _LOG_FLOOR
        value = relevance[place] + strength * log_left[place]
        if value > highest:
            best, highest = place, value
    return best


DPP = Method(order, vectors=True)
