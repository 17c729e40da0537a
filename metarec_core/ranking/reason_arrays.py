"""The reasons of list scores as a nested column: why each entry ranks where it does."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from metarec_core.episodes.types import IntArray
from metarec_core.schema import REASON_TYPE, Columns

DoubleArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ReasonArrays:
    """Reasons of ``T`` users' lists of ``K`` entries, the ``N`` strongest interactions named.

    Attributes:
        item: Share of the item itself, ``[T, K]``.
        prior: Share of the user's prior, ``[T, K]``.
        named: Shares of the strongest support interactions, strongest first, ``[T, K, N]``.
        named_item: Catalogue index of each, ``[T, K, N]``; -1 where there is none.
        named_value: Its rating or weight, ``[T, K, N]``.
        rest: Shares of all other support interactions together, ``[T, K]``; NaN without any.
        beyond: What has no exact reason, ``[T, K]``; NaN from a learner that has no such part.
        deletion: What ``beyond`` loses without each named interaction, ``[T, K, N]``; NaN where
            that was not asked.
        feature: Shares of the strongest features of the item, strongest first, ``[T, K, M]``.
        feature_label: Which feature each is, ``[T, K, M]``; -1 where there is none.
        lost: What the score loses without the first of the named, ``[T, K]``.
        rank_without: Place among the candidates then, ``[T, K]``; 0 where that was not asked.
    """

    item: DoubleArray
    prior: DoubleArray
    named: DoubleArray
    named_item: IntArray
    named_value: DoubleArray
    rest: DoubleArray
    beyond: DoubleArray
    deletion: DoubleArray
    feature: DoubleArray
    feature_label: IntArray
    lost: DoubleArray
    rank_without: IntArray

    @classmethod
    def empty(cls, n_users: int, k: int, n_named: int, n_features: int = 0) -> Self:
        """Arrays to be filled by :meth:`put`."""
        shape = (n_users, k)
        return cls(
            item=np.zeros(shape),
            prior=np.zeros(shape),
            named=np.zeros((*shape, n_named)),
            named_item=np.full((*shape, n_named), -1, dtype=np.int64),
            named_value=np.zeros((*shape, n_named)),
            rest=np.full(shape, np.nan),
            beyond=np.full(shape, np.nan),
            deletion=np.full((*shape, n_named), np.nan),
            feature=np.zeros((*shape, n_features)),
            feature_label=np.full((*shape, n_features), -1, dtype=np.int64),
            lost=np.zeros(shape),
            rank_without=np.zeros(shape, dtype=np.int64),
        )

    def put(self, rows: IntArray, part: ReasonArrays) -> None:
        """Copy ``part`` into ``rows``; it may name fewer interactions and features."""
        for field in fields(self):
            own, given = getattr(self, field.name), getattr(part, field.name)
            if own.ndim == 2:
                own[rows] = given
            else:
                own[rows, :, : given.shape[2]] = given

    def take(self, rows: IntArray, places: IntArray) -> ReasonArrays:
        """The entries at ``(rows, places)``, both ``[R]``, as ``R`` users with one entry each."""
        return ReasonArrays(
            *(getattr(self, field.name)[rows, places][:, None] for field in fields(self))
        )

    def total(self) -> DoubleArray:
        """The scores that the shares sum to, ``[T, K]``."""
        total: DoubleArray = self.item + self.prior + self.named.sum(axis=2)
        return total + np.nan_to_num(self.rest) + np.nan_to_num(self.beyond)

    def column(self, catalogue: pl.DataFrame, features: pl.Series | None = None) -> pl.Series:
        """The reasons of every entry, in row order, as a list column of ``REASON_TYPE``.

        Args:
            catalogue: ``item_id`` and ``title`` in catalogue order.
            features: Label of each feature, as ``feature_label`` counts them.
        """
        parts = [
            _Part("item", self.item),
            _Part("prior", self.prior),
            _Part("support", self.named, self.named_item, self.named_value),
            _Part("rest", self.rest),
            _Part("beyond", self.beyond),
        ]
        if not np.isnan(self.deletion).all():
            parts.append(_Part("deletion", self.deletion, self.named_item, self.named_value))
        if self.feature.shape[2]:
            there = np.where(self.feature_label >= 0, self.feature, np.nan)
            parts.append(_Part("feature", there, label=self.feature_label))
        if self.rank_without.any() and self.named.shape[2]:
            lost = np.where(self.rank_without > 0, self.lost, np.nan)
            first = (self.named_item[..., :1], self.named_value[..., :1])
            parts.append(_Part("counterfactual", lost, *first, rank=self.rank_without))
        return _column(parts, self.item.size, catalogue, features)


@dataclass(frozen=True, slots=True)
class _Part:
    """Reasons of one kind, ``[T, K]`` or ``[T, K, n]``; those whose share is NaN are not there."""

    kind: str
    share: DoubleArray
    item: IntArray | None = None
    value: DoubleArray | None = None
    label: IntArray | None = None
    rank: IntArray | None = None


def _column(
    parts: list[_Part], n_entries: int, catalogue: pl.DataFrame, features: pl.Series | None
) -> pl.Series:
    # Shapes are spelled out: of no entries -1 would be ambiguous.
    widths = [part.share.shape[2] if part.share.ndim == 3 else 1 for part in parts]
    per_entry = sum(widths)

    def joined(name: str, missing: float, dtype: type) -> npt.NDArray[Any]:
        rows: npt.NDArray[Any] = np.full((n_entries, per_entry), missing, dtype=dtype)
        start = 0
        for part, width in zip(parts, widths, strict=True):
            values = getattr(part, name)
            if values is not None:
                rows[:, start : start + width] = values.reshape(n_entries, width)
            start += width
        return rows.ravel()

    item, share = joined("item", -1, np.int64), joined("share", np.nan, np.float64)
    named = np.repeat([part.item is not None for part in parts], widths)
    there = np.flatnonzero(~np.isnan(share) & ((item >= 0) | ~np.tile(named, n_entries)))
    kinds = np.repeat(np.arange(len(parts)), widths)[there % per_entry]
    columns = {
        "kind": pl.Series([part.kind for part in parts]).gather(kinds),
        "item_id": catalogue[Columns.ITEM].gather(_or_null(item[there])),
        "title": catalogue[Columns.TITLE].gather(_or_null(item[there])),
        "feature": pl.repeat(None, len(there), dtype=pl.String(), eager=True),
        "value": pl.Series(joined("value", np.nan, np.float64)[there]).fill_nan(None),
        "share": pl.Series(share[there]),
        "rank": pl.repeat(None, len(there), dtype=pl.Int32(), eager=True),
    }
    if features is not None and any(part.label is not None for part in parts):
        columns["feature"] = features.gather(_or_null(joined("label", -1, np.int64)[there]))
    if any(part.rank is not None for part in parts):
        rank = pl.Series(joined("rank", 0, np.int64)[there])
        columns["rank"] = rank.set(rank == 0, None)
    counts = np.bincount(there // per_entry, minlength=n_entries)
    return _lists(pl.DataFrame(columns).to_struct(Columns.REASONS).cast(REASON_TYPE), counts)


def _or_null(index: IntArray) -> pl.Series:
    """Rows to gather; null where there is none."""
    rows = pl.Series(index)
    return rows.set(rows < 0, None)


def _lists(flat: pl.Series, counts: IntArray) -> pl.Series:
    """Cut a series into lists of these lengths, without a copy of every list."""
    bounds = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    # Not pa.array: that imports pandas, which serving does without.
    offsets = pa.Array.from_buffers(pa.int64(), len(bounds), [None, pa.py_buffer(bounds)])
    cut = pa.LargeListArray.from_arrays(offsets, flat.to_arrow())
    return pl.Series(flat.name, cut)
