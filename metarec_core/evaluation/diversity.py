"""All figures of lists beyond accuracy, from the lists themselves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from metarec_core.episodes.types import IntArray
from metarec_core.errors import ModelError
from metarec_core.evaluation import metrics
from metarec_core.ranking.diversity.space import ItemSpace

DoubleArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

DIVERSITY_METRICS: Mapping[str, str] = {
    "intra_list_diversity": "1 less the mean cosine of two items of a list",
    "category_coverage": "share of all categories in a list",
    "category_entropy": "entropy of the categories of a list, in bits",
    "category_calibration_error": "divergence of a list's categories from what was liked, in nats",
    "novelty": "mean self-information of a list's items, in bits",
    "unexpectedness": "1 less the mean cosine of a list's items with the history's",
    "serendipity": "share of a list that is relevant and not what popularity shows",
    "catalogue_coverage": "share of the catalogue in any list",
    "gini": "how unevenly items are shown, 0 for all alike",
    "popularity_lift": "how much more popular lists are than histories, 0 for alike",
}
"""What :func:`diversity_figures` measures. More diverse is more, save for
``category_calibration_error``, ``gini`` and ``popularity_lift``, where it is less."""

_CELLS_AT_ONCE = 2**23
"""Numbers held at a time (users x entries x dimensions)."""


def diversity_figures(
    lists: IntArray,
    space: ItemSpace,
    history: IntArray,
    history_mask: BoolArray,
    targets: BoolArray | None = None,
    *,
    liked: BoolArray | None = None,
) -> dict[str, float]:
    """Every figure of :data:`DIVERSITY_METRICS`; those of one list are means over users.

    Args:
        lists: Catalogue indices, ``[U, K]``, best first; -1 where a list is shorter.
        space: The catalogue.
        history: What each user is known by, catalogue indices, ``[U, S]``.
        history_mask: True where an entry is real, ``[U, S]``.
        targets: Which entries each user turned out to like, ``[U, K]``; None: not known.
        liked: Which entries of the history the user's taste is read from, ``[U, S]``, see
            :func:`metarec_core.ranking.diversity.taste.liked`; None: all that are real.

    Returns:
        Name to figure. A figure is a mean over the users who have one, and NaN where nobody has:
        of categories in a catalogue without any, or of serendipity without ``targets``.

    Raises:
        ModelError: If a list or history is of another catalogue.
    """
    highest = max(lists.max(initial=-1), history.max(initial=-1, where=history_mask))
    if highest >= space.n_items:
        raise ModelError(
            "lists to measure",
            found=f"item index {int(highest)}",
            wanted=f"indices of the item space's {space.n_items} items",
            next_step="measure lists with the item space of the catalogue they were made from",
        )
    widest = max(space.vectors.shape[1], space.categories.shape[1], 1)
    entries = max(lists.shape[1] + history.shape[1], 1)
    liked = history_mask if liked is None else liked
    step = max(1, _CELLS_AT_ONCE // (widest * entries))
    parts = [
        _by_user(
            lists[start : start + step],
            space,
            history[start : start + step],
            history_mask[start : start + step],
            liked[start : start + step],
            None if targets is None else targets[start : start + step],
        )
        for start in range(0, len(lists), step)
    ]
    shown = metrics.exposure(lists, space.n_items)
    figures = {
        name: _mean(np.concatenate([part[name] for part in parts]) if parts else np.zeros(0))
        for name in DIVERSITY_METRICS
        if not parts or name in parts[0]
    }
    figures |= {
        "catalogue_coverage": float((shown > 0).mean()),
        "gini": metrics.gini(shown),
        "popularity_lift": metrics.popularity_lift(lists, space.popularity, history, history_mask),
    }
    return {name: figures[name] for name in DIVERSITY_METRICS}


def popular_unseen(popularity: DoubleArray, history: IntArray, mask: BoolArray, k: int) -> IntArray:
    """The ``k`` most popular items that each user has not met.

    Args:
        popularity: ``[I]``; equals in catalogue order.
        history: Catalogue indices, ``[U, S]``.
        mask: True where an entry is real, ``[U, S]``.
        k: Length of the list.

    Returns:
        ``[U, k]`` int64; -1 where fewer items are left.
    """
    best = np.argsort(-popularity, kind="stable")[: k + history.shape[1]]
    place = np.full(len(popularity), -1)
    place[best] = np.arange(len(best))
    seen = np.zeros((len(history), len(best) + 1), dtype=np.bool_)
    rows, entries = np.nonzero(mask)
    # Items that are not among the best mark the column that is cut off.
    seen[rows, place[history[rows, entries]]] = True
    unseen = ~seen[:, :-1]
    rank = unseen.cumsum(axis=1)
    rows, columns = np.nonzero(unseen & (rank <= k))
    lists = np.full((len(history), k), -1)
    lists[rows, rank[rows, columns] - 1] = best[columns]
    return lists


def _by_user(
    lists: IntArray,
    space: ItemSpace,
    history: IntArray,
    mask: BoolArray,
    liked: BoolArray,
    targets: BoolArray | None,
) -> dict[str, DoubleArray]:
    vectors, categories = space.vectors, space.categories
    wanted = space.tastes(history, liked)
    expected = popular_unseen(space.popularity, history, mask, lists.shape[1])
    return {
        "intra_list_diversity": metrics.intra_list_diversity(lists, vectors),
        "category_coverage": metrics.category_coverage(lists, categories),
        "category_entropy": metrics.category_entropy(lists, categories),
        "category_calibration_error": metrics.category_calibration_error(lists, categories, wanted),
        "novelty": metrics.novelty(lists, space.log_popularity),
        "unexpectedness": metrics.unexpectedness(lists, vectors, history, mask),
        "serendipity": (
            np.full(len(lists), np.nan)
            if targets is None
            else metrics.serendipity(lists, targets, expected)
        ),
    }


def _mean(figures: DoubleArray) -> float:
    known = figures[~np.isnan(figures)]
    return float(known.mean()) if len(known) else float("nan")
