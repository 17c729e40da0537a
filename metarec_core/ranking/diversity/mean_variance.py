"""Portfolios: items whose scores are sure, and do not err together."""

from __future__ import annotations

import math

import numpy as np

from metarec_core.episodes.types import IntArray
from metarec_core.ranking.diversity.compiled import DoubleArray, compiled, first_largest
from metarec_core.ranking.diversity.method import Method, Request

_STEPS = float(1 << 20)
"""Values are compared on a grid of a millionth: the last bits of a covariance depend on how many
users were in one product, and lists must not."""


def order(request: Request) -> IntArray:
    """Positions of ``argmax_i (1 - s) z_i - s (w_k C_ii + 2 sum_{j shown} w_j C_ij)`` at place k.

    Mean-variance analysis (Wang & Zhu 2009, "Portfolio Theory of Information Retrieval", equations
    6 and 8) with the weights of DCG, ``w_k = 1 / log2(k + 1)``; ``z`` is the standardised score,
    ``C`` the posterior covariance of the standardised scores, ``s`` the strength: their risk
    aversion is ``s / (1 - s)``.

    Args:
        request: The candidates, ``[B, P]``, with their covariance.

    Returns:
        ``[B, length]`` int64, -1 behind the last candidate.
    """
    assert request.pool.covariance is not None
    return _mean_variance(
        request.pool.covariance,
        request.counts,
        request.standard,
        request.spread,
        request.strength,
        request.length,
    )


@compiled
def _mean_variance(
    covariance: DoubleArray,
    counts: IntArray,
    standard: DoubleArray,
    spread: DoubleArray,
    strength: float,
    length: int,
) -> IntArray:
    n_users, width = standard.shape
    relevance, risk, value = np.empty(width), np.empty(width), np.empty(width)
    chosen = np.full((n_users, length), -1)
    for row in range(n_users):
        n = counts[row]
        unit = strength / (spread[row] * spread[row])
        for place in range(n):
            relevance[place] = (1.0 - strength) * standard[row, place]
            risk[place] = 0.0
        for rank in range(min(length, n)):
            weight = 1.0 / math.log2(rank + 2.0)
            for place in range(n):
                own = weight * covariance[row, place, place]
                exact = relevance[place] - unit * (own + risk[place])
                value[place] = np.rint(exact * _STEPS) / _STEPS
            best = first_largest(value, n)
            chosen[row, rank], relevance[best] = best, -np.inf
            for place in range(n):
                risk[place] += 2.0 * weight * covariance[row, best, place]
    return chosen


MEAN_VARIANCE = Method(order, covariance=True)
