"""Maximal marginal relevance: no item that is too much like one already shown."""

from __future__ import annotations

import numpy as np

from metarec_core.episodes.types import FloatArray, IntArray
from metarec_core.ranking.diversity.compiled import (
    DoubleArray,
    compiled,
    first_largest,
    gather,
    products,
)
from metarec_core.ranking.diversity.method import Method, Request

_NONE = np.float32(-2.0)
"""Below every cosine."""


def order(request: Request) -> IntArray:
    """Positions of ``argmax_i (1 - s) z_i - s max_{j shown} cos(v_i, v_j)``, place after place.

    Carbonell & Goldstein 1998, "The Use of MMR, Diversity-Based Reranking for Reordering Documents
    and Producing Summaries", with ``s`` the strength (their ``1 - lambda``) and ``z`` the
    standardised score; the first place is the best score's. Cosines are float32.

    Args:
        request: The candidates, ``[B, P]``.

    Returns:
        ``[B, length]`` int64, -1 behind the last candidate.
    """
    return _mmr(
        request.space.vectors,
        request.pool.items,
        request.counts,
        request.standard,
        request.strength,
        request.length,
    )


@compiled
def _mmr(
    vectors: FloatArray,
    items: IntArray,
    counts: IntArray,
    standard: DoubleArray,
    strength: float,
    length: int,
) -> IntArray:
    n_users, width = items.shape
    table = np.empty((vectors.shape[1], width), dtype=np.float32)
    cosine, closest = np.empty(width, dtype=np.float32), np.empty(width, dtype=np.float32)
    relevance, value = np.empty(width), np.empty(width)
    chosen = np.full((n_users, length), -1)
    for row in range(n_users):
        n = counts[row]
        if n == 0:
            continue
        gather(vectors, items[row], n, table)
        for place in range(n):
            relevance[place] = (1.0 - strength) * standard[row, place]
            closest[place] = _NONE
        last = 0
        chosen[row, 0], relevance[0] = last, -np.inf
        for rank in range(1, min(length, n)):
            products(table, last, n, cosine)
            for place in range(n):
                closest[place] = max(closest[place], cosine[place])
                value[place] = relevance[place] - strength * closest[place]
            last = first_largest(value, n)
            chosen[row, rank], relevance[last] = last, -np.inf
    return chosen


MMR = Method(order, vectors=True)
