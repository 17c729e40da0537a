"""Explicit aspects: every category that the user cares about gets an item."""

from __future__ import annotations

import numpy as np

from metarec_core.episodes.types import IntArray
from metarec_core.ranking.diversity.compiled import DoubleArray, compiled, first_largest
from metarec_core.ranking.diversity.method import Method, Request


def order(request: Request) -> IntArray:
    """Positions of ``argmax_i (1 - s) r_i + s sum_c p(c|u) p(c|i) prod_{j shown} (1 - p(c|j))``.

    xQuAD (Santos, Macdonald & Ounis 2010, "Exploiting Query Reformulations for Web Search Result
    Diversification") with categories in the place of query aspects: ``p(c|u)`` is the category
    distribution of what the user liked, and of the candidates where that has none;
    ``p(c|i)`` that of the item, ``s`` the strength; ``r``, their probability of relevance, is the
    score between the worst (0) and the best candidate (1).

    Args:
        request: The candidates, ``[B, P]``.

    Returns:
        ``[B, length]`` int64, -1 behind the last candidate.
    """
    pool, space = request.pool, request.space
    wanted = space.tastes(pool.history, pool.taste_mask)
    unknown = wanted.sum(axis=1) == 0.0
    if unknown.any():
        candidates = pool.items[unknown]
        wanted[unknown] = space.tastes(candidates, candidates >= 0)
    return _xquad(
        *space.sparse_categories,
        pool.items,
        request.counts,
        request.standard,
        wanted,
        request.strength,
        request.length,
    )


@compiled
def _xquad(
    indptr: IntArray,
    columns: IntArray,
    shares: DoubleArray,
    items: IntArray,
    counts: IntArray,
    standard: DoubleArray,
    wanted: DoubleArray,
    strength: float,
    length: int,
) -> IntArray:
    n_users, width = items.shape
    relevance, value = np.empty(width), np.empty(width)
    chosen = np.full((n_users, length), -1)
    for row in range(n_users):
        n = counts[row]
        still_open = wanted[row].copy()
        reach = standard[row, 0] - standard[row, max(n - 1, 0)]
        scale = (1.0 - strength) / reach if reach > 0.0 else 0.0
        for place in range(n):
            relevance[place] = scale * (standard[row, place] - standard[row, n - 1])
        for rank in range(min(length, n)):
            for place in range(n):
                item, gain = items[row, place], 0.0
                for entry in range(indptr[item], indptr[item + 1]):
                    gain += shares[entry] * still_open[columns[entry]]
                value[place] = relevance[place] + strength * gain
            best = first_largest(value, n)
            chosen[row, rank], relevance[best] = best, -np.inf
            item = items[row, best]
            for entry in range(indptr[item], indptr[item + 1]):
                still_open[columns[entry]] *= 1.0 - shares[entry]
    return chosen


XQUAD = Method(order, categories=True)
