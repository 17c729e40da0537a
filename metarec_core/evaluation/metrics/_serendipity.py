"""Lists that please with what was not to be expected."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from metarec_core.episodes.types import FloatArray, IntArray
from metarec_core.evaluation.metrics._lists import (
    DoubleArray,
    mean_over_list,
    of_items,
    ratio,
)


def serendipity(lists: IntArray, targets: npt.NDArray[np.bool_], expected: IntArray) -> DoubleArray:
    """Share of a list that is relevant, and that a primitive recommender would not have shown.

    ``|{i in list, i relevant, i not expected}| / |list|`` (Ge, Delgado-Battenfeld & Jannach 2010,
    "Beyond Accuracy: Evaluating Recommender Systems by Coverage and Serendipity", equation 5, after
    Murakami et al. 2008), the primitive recommender being popularity.

    Args:
        lists: Catalogue indices, ``[U, K]``; -1 where a list is shorter.
        targets: Which entries the user turned out to like, ``[U, K]``.
        expected: What popularity would show to each user, ``[U, E]``.

    Returns:
        ``[U]`` float64 in [0, 1]; NaN for an empty list.
    """
    known = (lists[:, :, None] == expected[:, None, :]).any(axis=2)
    return mean_over_list((targets & ~known & (lists >= 0)).astype(np.float64), lists)


def unexpectedness(
    lists: IntArray, vectors: FloatArray, history: IntArray, mask: npt.NDArray[np.bool_]
) -> DoubleArray:
    """One less the mean cosine of a list's items with those of the user's history.

    Zhang et al. 2012, "Auralist: Introducing Serendipity into Music Recommendation", whose
    *unserendipity* is that mean cosine.

    Args:
        lists: Catalogue indices, ``[U, K]``; -1 where a list is shorter.
        vectors: ``[I, d]``, of length 1 or 0.
        history: Catalogue indices, ``[U, S]``.
        mask: True where an entry of the history is real, ``[U, S]``.

    Returns:
        ``[U]`` float64 in [0, 2]; NaN for an empty list or an empty history.
    """
    shown = of_items(vectors, lists).sum(axis=1)
    known = of_items(vectors, np.where(mask, history, -1)).sum(axis=1)
    pairs = (lists >= 0).sum(axis=1) * mask.sum(axis=1)
    alike = (shown * known).sum(axis=1)
    return 1.0 - ratio(alike, pairs)
