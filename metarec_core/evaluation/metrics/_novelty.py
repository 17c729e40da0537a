"""How little known the items of a list are."""

from __future__ import annotations

import math

from metarec_core.episodes.types import IntArray
from metarec_core.evaluation.metrics._lists import DoubleArray, mean_over_list, of_items


def novelty(lists: IntArray, log_popularity: DoubleArray) -> DoubleArray:
    """Mean self-information of a list's items, ``-log2 p(i)``, in bits.

    ``p(i)`` is the share of users who met the item (Zhou et al. 2010, "Solving the Apparent
    Diversity-Accuracy Dilemma of Recommender Systems"; Vargas & Castells 2011, "Rank and Relevance
    in Novelty and Diversity Metrics for Recommender Systems").

    Args:
        lists: Catalogue indices, ``[U, K]``; -1 where a list is shorter.
        log_popularity: ``ln p(i)``, ``[I]``, finite also for items that nobody met.

    Returns:
        ``[U]`` float64; NaN for an empty list.
    """
    return mean_over_list(of_items(-log_popularity / math.log(2.0), lists), lists)
