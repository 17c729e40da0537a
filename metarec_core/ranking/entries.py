"""The entries of a tile of lists, as arrays that are filled group by group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from metarec_core.episodes.types import IntArray
from metarec_core.ranking.assembly import Lists
from metarec_core.ranking.reasons import DoubleArray, ReasonArrays
from metarec_core.ranking.request import ListSettings
from metarec_core.schema import Columns


@dataclass(slots=True)
class Entries:
    """Entries of ``T`` users.

    Attributes:
        items: Catalogue indices, ``[T, K]``; -1 behind the end of a list.
        scores: List scores, ``[T, K]``; -inf there.
        means: Forecasts of values, ``[T, K]``; NaN where there is none.
        sds: Their predictive sd.
        relevant: Probability of relevance.
        order: Places in the order of ranks, ``[T, K]``.
        flags: Row of each rank's flags in ``texts``, ``[T, K]``; 0 for none.
        texts: Flags.
        n_named: Interactions that reasons name.
        n_features: Features that reasons name.
        reasons: None while there are none.
    """

    items: IntArray
    scores: DoubleArray
    means: DoubleArray
    sds: DoubleArray
    relevant: DoubleArray
    order: IntArray
    flags: IntArray
    texts: list[pl.Series]
    n_named: int
    n_features: int
    reasons: ReasonArrays | None = None

    @classmethod
    def empty(cls, n_users: int, settings: ListSettings) -> Entries:
        """Entries to be filled."""
        shape = (n_users, settings.k)
        return cls(
            items=np.full(shape, -1, dtype=np.int64),
            scores=np.full(shape, -np.inf),
            means=np.full(shape, np.nan),
            sds=np.full(shape, np.nan),
            relevant=np.full(shape, np.nan),
            order=np.tile(np.arange(settings.k), (n_users, 1)),
            flags=np.zeros(shape, dtype=np.int64),
            texts=[pl.Series([[]], dtype=pl.List(pl.String()))],
            n_named=settings.reasons,
            n_features=settings.detail.features if settings.detail else 0,
        )

    def put_reasons(self, rows: IntArray, reasons: ReasonArrays) -> None:
        """Reasons of some users."""
        if self.reasons is None:
            n_users, k = self.items.shape
            self.reasons = ReasonArrays.empty(n_users, k, self.n_named, self.n_features)
        self.reasons.put(rows, reasons)

    def put_flags(self, rows: IntArray, lists: Lists) -> None:
        """Flags of a group, whose entries they name in the order of lists and ranks."""
        if lists.flags is None:
            return
        listed, ranks = np.nonzero(lists.items >= 0)
        start = sum(map(len, self.texts))
        self.flags[rows[listed], ranks] = start + np.arange(len(lists.flags))
        self.texts.append(lists.flags)

    def flags_at(self, rows: IntArray, ranks: IntArray) -> pl.Series:
        """Flags of the entries at these ranks."""
        texts = [series.alias(Columns.RULE_FLAGS) for series in self.texts]
        return pl.concat(texts).gather(self.flags[rows, ranks])
