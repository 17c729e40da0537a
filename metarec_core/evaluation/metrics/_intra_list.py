"""How unlike the items of one list are."""

from __future__ import annotations

import numpy as np

from metarec_core.episodes.types import FloatArray, IntArray
from metarec_core.evaluation.metrics._lists import DoubleArray, of_items, ratio


def intra_list_diversity(lists: IntArray, vectors: FloatArray) -> DoubleArray:
    """One less the mean cosine of all pairs of a list.

    Intra-list distance (Ziegler et al. 2005, "Improving Recommendation Lists Through Topic
    Diversification") with the cosine distance. An item of which nothing is known (a vector of 0) is
    like no other.

    Args:
        lists: Catalogue indices, ``[U, K]``; -1 where a list is shorter.
        vectors: ``[I, d]``, of length 1 or 0.

    Returns:
        ``[U]`` float64 in [0, 2]; NaN for a list without a pair.
    """
    shown = of_items(vectors, lists)
    # All ordered pairs together are the squared sum, less each item with itself.
    total = np.square(shown.sum(axis=1)).sum(axis=1) - np.square(shown).sum(axis=(1, 2))
    n = (lists >= 0).sum(axis=1)
    return 1.0 - ratio(total, n * (n - 1))
