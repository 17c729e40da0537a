"""How lists share out the catalogue."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from metarec_core.episodes.types import IntArray
from metarec_core.evaluation.metrics._lists import DoubleArray, mean_over_list, of_items


def exposure(lists: IntArray, n_items: int) -> IntArray:
    """How many lists show each item, ``[I]``.

    Args:
        lists: Catalogue indices, ``[U, K]``; -1 where a list is shorter.
        n_items: Size of the catalogue.
    """
    return np.bincount(lists[lists >= 0], minlength=n_items)


def gini(shown: IntArray) -> float:
    """How unevenly items are shown: 0 for all alike, 1 for one item in every list.

    ``1/(n - 1) sum_j (2 j - n - 1) p_(j)`` over the shares ``p_(1) <= ... <= p_(n)`` of the ``n``
    items of the catalogue in all entries (Shani & Gunawardana 2011, "Evaluating Recommendation
    Systems", section 3.3).

    Args:
        shown: How many lists show each item, ``[I]``.

    Returns:
        A number in [0, 1]; NaN for a catalogue of one item, or without an entry.
    """
    n, total = len(shown), float(shown.sum())
    if n < 2 or total == 0.0:
        return math.nan
    place = 2.0 * np.arange(1, n + 1) - n - 1
    return float((place * np.sort(shown)).sum() / total / (n - 1))


def popularity_lift(
    lists: IntArray, popularity: DoubleArray, history: IntArray, mask: npt.NDArray[np.bool_]
) -> float:
    """How much more popular lists are than what their users chose themselves.

    ``(GAP_lists - GAP_histories) / GAP_histories``, where ``GAP`` is the mean over users of the
    mean popularity of their items (Abdollahpouri et al. 2020, "The Connection Between Popularity
    Bias, Calibration, and Fairness in Recommendation"): 0 for lists as popular as histories, 1 for
    twice as popular. Users without history or list are left out.

    Args:
        lists: Catalogue indices, ``[U, K]``; -1 where a list is shorter.
        popularity: Share of users, ``[I]``.
        history: Catalogue indices, ``[U, S]``.
        mask: True where an entry of the history is real, ``[U, S]``.

    Returns:
        A number from -1 up; NaN without a user, or where histories have no popularity.
    """
    known = np.where(mask, history, -1)
    in_lists = mean_over_list(of_items(popularity, lists), lists)
    in_histories = mean_over_list(of_items(popularity, known), known)
    both = ~np.isnan(in_lists) & ~np.isnan(in_histories)
    own = float(in_histories[both].sum())
    return float(in_lists[both].sum()) / own - 1.0 if own > 0.0 else math.nan
