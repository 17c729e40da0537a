"""The catalogue as re-ranking sees it: vectors, categories and popularity of every item."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from metarec_core.episodes.types import FloatArray, IntArray, InteractionMatrix, ValueScale
from metarec_core.errors import ModelError
from metarec_core.learners.base import Learner
from metarec_core.ranking.diversity.categories import Categories
from metarec_core.ranking.diversity.compiled import compiled
from metarec_core.ranking.diversity.pool import BoolArray, DoubleArray
from metarec_core.ranking.vectors import factor_vectors

_UNIT = 1e-3
"""How far the length of a vector may be from 1."""


@dataclass(frozen=True)
class ItemSpace:
    """What is known of every item, the same for all users.

    Attributes:
        vectors: ``[I, d]`` float32, each of length 1, or 0 where nothing is known; two items are
            as alike as the cosine of their angle.
        categories: ``[I, C]`` float32: a distribution an item, or 0 for an item without any.
        category_names: ``C`` names.
        popularity: Share of the users with a relevant interaction, ``[I]`` float64.

    Raises:
        ModelError: If shapes do not belong together or a figure is out of range.
    """

    vectors: FloatArray
    categories: FloatArray
    category_names: tuple[str, ...]
    popularity: DoubleArray

    def __post_init__(self) -> None:
        faults = list(self._faults())
        if faults:
            raise ModelError(
                "item space",
                found="; ".join(faults),
                wanted="one row an item everywhere: vectors of length 1 or 0, categories that sum "
                "to 1 or are 0, popularity in [0, 1]",
                next_step="build it with metarec_core.ranking.diversity.space.item_space; where "
                "vectors are not numbers train the learner again",
            )

    def _faults(self) -> Iterator[str]:
        rows = {"vectors": len(self.vectors), "categories": len(self.categories)}
        for name, count in rows.items():
            if count != len(self.popularity):
                yield f"{count} rows of {name} for {len(self.popularity)} items"
        if self.categories.shape[1] != len(self.category_names):
            yield f"{len(self.category_names)} names of {self.categories.shape[1]} categories"
        lengths = np.linalg.norm(self.vectors, axis=1)
        if not ((lengths == 0.0) | (np.abs(lengths - 1.0) < _UNIT)).all():
            yield "vectors that are not of length 1 or 0"
        sums = self.categories.sum(axis=1)
        if not ((sums == 0.0) | (np.abs(sums - 1.0) < _UNIT)).all() or (self.categories < 0).any():
            yield "categories that are no distribution"
        if not ((self.popularity >= 0.0) & (self.popularity <= 1.0)).all():
            yield "popularity outside of [0, 1]"

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return len(self.popularity)

    @cached_property
    def log_popularity(self) -> DoubleArray:
        """Natural logarithm of the popularity, ``[I]``.

        An item that nobody met counts as half as popular as the least popular that somebody did.
        """
        met = self.popularity > 0.0
        least = float(self.popularity[met].min()) if met.any() else 1.0
        logarithm: DoubleArray = np.log(np.where(met, self.popularity, least / 2.0))
        return logarithm

    @cached_property
    def sparse_categories(self) -> tuple[IntArray, IntArray, DoubleArray]:
        """The categories as CSR: ``indptr`` ``[I + 1]``, columns and shares ``[nnz]``."""
        rows, columns = np.nonzero(self.categories)
        indptr = np.searchsorted(rows, np.arange(self.n_items + 1))
        return indptr.astype(np.int64), columns, self.categories[rows, columns].astype(np.float64)

    def tastes(self, history: IntArray, mask: BoolArray) -> DoubleArray:
        """Mean distribution over categories of each history.

        Args:
            history: Catalogue indices, ``[B, S]``.
            mask: True where an entry counts, ``[B, S]``; see
                :func:`metarec_core.ranking.diversity.taste.liked`.

        Returns:
            ``[B, C]`` float64, rows that sum to 1; 0 where no item of a history has a category.
        """
        return _tastes(*self.sparse_categories, len(self.category_names), history, mask)


def item_space(
    learner: Learner,
    popularity: DoubleArray,
    *,
    categories: Categories | None = None,
    item_features: FloatArray | None = None,
) -> ItemSpace:
    """The space of a learner's catalogue.

    Similarity is that of :func:`~metarec_core.ranking.vectors.factor_vectors`; a learner without
    any is served by the items' encoded features, else by their categories.

    Args:
        learner: A fitted learner.
        popularity: ``[I]`` float64, see :func:`relevant_share`.
        categories: The items' categories; None for none.
        item_features: Encoded content, ``[I, Fi]``; None or ``Fi`` 0 for none.

    Raises:
        ModelError: If the parts are of different catalogues.
    """
    categories = categories or Categories.none(len(popularity))
    factors = factor_vectors(learner)
    vectors = None if factors is None else factors[0].cpu().numpy()
    if vectors is None and item_features is not None and item_features.shape[1] > 0:
        vectors = _spread_alike(item_features)
    if vectors is None:
        vectors = categories.shares.astype(np.float64)
    return ItemSpace(
        vectors=_unit(vectors),
        categories=categories.shares,
        category_names=categories.names,
        popularity=popularity,
    )


def relevant_share(interactions: InteractionMatrix, scale: ValueScale, n_items: int) -> DoubleArray:
    """Share of the users who have a relevant interaction with each item, ``[I]`` float64."""
    relevant = interactions.values >= scale.relevant_from
    counts = np.bincount(interactions.items[relevant], minlength=n_items)
    return counts / max(interactions.n_users, 1)


@compiled
def _tastes(
    indptr: IntArray,
    columns: IntArray,
    shares: DoubleArray,
    n_categories: int,
    history: IntArray,
    mask: BoolArray,
) -> DoubleArray:
    tastes = np.zeros((len(history), n_categories))
    for row in range(len(history)):
        total = 0.0
        for entry in range(history.shape[1]):
            if not mask[row, entry]:
                continue
            item = history[row, entry]
            for place in range(indptr[item], indptr[item + 1]):
                tastes[row, columns[place]] += shares[place]
                total += shares[place]
        if total > 0.0:
            for column in range(n_categories):
                tastes[row, column] /= total
    return tastes


def _spread_alike(features: FloatArray) -> DoubleArray:
    """Columns centred and of sd 1: a year must not outweigh all genres."""
    wide = features.astype(np.float64)
    sd = wide.std(axis=0)
    scaled: DoubleArray = (wide - wide.mean(axis=0)) / np.where(sd > 0.0, sd, 1.0)
    return scaled


def _unit(vectors: DoubleArray) -> FloatArray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.where(length > 0.0, length, 1.0), dtype=np.float32)
