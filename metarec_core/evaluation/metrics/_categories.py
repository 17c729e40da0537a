"""How many categories a list shows, and how evenly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from metarec_core.episodes.types import FloatArray, IntArray
from metarec_core.evaluation.metrics._lists import DoubleArray, of_items, ratio


def category_shares(lists: IntArray, categories: FloatArray) -> DoubleArray:
    """Distribution of each list over categories, each item alike.

    Args:
        lists: Catalogue indices, ``[U, K]``; -1 where a list is shorter.
        categories: ``[I, C]``, rows that sum to 1, or 0 for an item without a category.

    Returns:
        ``[U, C]`` float64, rows that sum to 1; NaN where no item of a list has a category.
    """
    total = of_items(categories, lists).sum(axis=1)
    return ratio(total, total.sum(axis=1, keepdims=True))


def category_coverage(lists: IntArray, categories: FloatArray) -> DoubleArray:
    """Share of all categories that a list shows (subtopic recall, Zhai et al. 2003).

    Args:
        lists: Catalogue indices, ``[U, K]``; -1 where a list is shorter.
        categories: ``[I, C]``.

    Returns:
        ``[U]`` float64 in [0, 1]; NaN for an empty list, and without categories.
    """
    shown = (of_items(categories, lists) > 0.0).any(axis=1)
    known = (lists >= 0).any(axis=1) & (shown.shape[1] > 0)
    return np.where(known, shown.sum(axis=1) / max(shown.shape[1], 1), np.nan)


def category_entropy(lists: IntArray, categories: FloatArray) -> DoubleArray:
    """Shannon entropy of each list's distribution over categories, in bits.

    Args:
        lists: Catalogue indices, ``[U, K]``; -1 where a list is shorter.
        categories: ``[I, C]``, rows that sum to 1, or 0 for an item without a category.

    Returns:
        ``[U]`` float64, 0 for a list of one category, at most ``log2 C``; NaN where no item of a
        list has a category.
    """
    shares = category_shares(lists, categories)
    bits = np.log2(shares, out=np.zeros(shares.shape), where=shares > 0.0)
    entropy = -(shares * bits).sum(axis=1)
    # An entropy of 0 must not print as -0.
    return np.where(_unknown(shares), np.nan, entropy + 0.0)


def category_calibration_error(
    lists: IntArray, categories: FloatArray, wanted: DoubleArray, smoothing: float = 0.01
) -> DoubleArray:
    """How far the categories of each list are from those of the user's history, in nats.

    ``KL(p || (1 - a) q + a p)`` with ``p`` the history's distribution and ``q`` the list's, and
    ``a = .01`` so that a category that is missing costs much, not infinitely (Steck 2018,
    "Calibrated Recommendations", equations 4 and 5).

    Args:
        lists: Catalogue indices, ``[U, K]``; -1 where a list is shorter.
        categories: ``[I, C]``, rows that sum to 1, or 0 for an item without a category.
        wanted: ``p``, ``[U, C]``; a row of 0 for a user whose history has no category.
        smoothing: ``a``, in (0, 1).

    Returns:
        ``[U]`` float64, 0 for a list in the proportions of the history; NaN where history or list
        has no category.
    """
    shares = category_shares(lists, categories)
    mixed = (1.0 - smoothing) * np.nan_to_num(shares) + smoothing * wanted
    ratio = np.divide(wanted, mixed, out=np.ones(wanted.shape), where=wanted > 0.0)
    error = (wanted * np.log(ratio)).sum(axis=1)
    return np.where(_unknown(shares) | (wanted.sum(axis=1) == 0.0), np.nan, error)


def _unknown(shares: DoubleArray) -> npt.NDArray[np.bool_]:
    unknown: npt.NDArray[np.bool_] = ~(shares.sum(axis=1) > 0.0)
    return unknown
