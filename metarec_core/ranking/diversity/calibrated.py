"""Calibrated lists: categories in the proportions of what the user liked."""

from __future__ import annotations

import math

import numpy as np

from metarec_core.episodes.types import IntArray
from metarec_core.ranking.diversity.compiled import DoubleArray, compiled, first_largest
from metarec_core.ranking.diversity.method import Method, Request

SMOOTHING = 0.01
"""Share of the taste in what the list is compared with, so that no logarithm is infinite."""


def order(request: Request) -> IntArray:
    """Positions of ``argmax_i (1 - s) z_i - s KL(p || q(shown + i))``, place after place.

    ``p`` is the category distribution of what the user liked, ``q`` that of the list, each item
    alike, mixed with ``SMOOTHING`` of ``p`` (Steck 2018, "Calibrated Recommendations", equations 2
    to 6); ``s`` is the strength and ``z`` the standardised score. A user none of whose liked items
    has a category keeps the order of scores.

    Args:
        request: The candidates, ``[B, P]``.

    Returns:
        ``[B, length]`` int64, -1 behind the last candidate.
    """
    pool, space = request.pool, request.space
    return _calibrated(
        *space.sparse_categories,
        pool.items,
        request.counts,
        request.standard,
        space.tastes(pool.history, pool.taste_mask),
        request.strength,
        request.length,
    )


@compiled
def _calibrated(
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
    shown, log_now = np.empty(wanted.shape[1]), np.empty(wanted.shape[1])
    chosen = np.full((n_users, length), -1)
    for row in range(n_users):
        n, target, mass = counts[row], wanted[row], 0.0
        shown[:] = 0.0
        for place in range(n):
            relevance[place] = (1.0 - strength) * standard[row, place]
        for rank in range(min(length, n)):
            # An item that is in some category adds to the mass of the list, another one does not.
            without = _agreement(target, shown, max(mass, 1.0), log_now)
            within = _agreement(target, shown, mass + 1.0, log_now)
            for place in range(n):
                item = items[row, place]
                fit = within
                for entry in range(indptr[item], indptr[item + 1]):
                    column = columns[entry]
                    if target[column] > 0.0:
                        share = (shown[column] + shares[entry]) / (mass + 1.0)
                        smooth = (1.0 - SMOOTHING) * share + SMOOTHING * target[column]
                        fit += target[column] * (math.log(smooth) - log_now[column])
                if indptr[item] == indptr[item + 1]:
                    fit = without
                value[place] = relevance[place] + strength * fit
            best = first_largest(value, n)
            chosen[row, rank], relevance[best] = best, -np.inf
            item = items[row, best]
            for entry in range(indptr[item], indptr[item + 1]):
                shown[columns[entry]] += shares[entry]
            if indptr[item] < indptr[item + 1]:
                mass += 1.0
    return chosen


@compiled
def _agreement(
    target: DoubleArray, shown: DoubleArray, mass: float, log_share: DoubleArray
) -> float:
    """``sum_c p_c log q_c`` of a list with ``mass`` items, and each logarithm."""
    total = 0.0
    for column in range(len(target)):
        if target[column] > 0.0:
            share = (1.0 - SMOOTHING) * shown[column] / mass + SMOOTHING * target[column]
            log_share[column] = math.log(share)
            total += target[column] * log_share[column]
    return total


CALIBRATED = Method(order, categories=True)
