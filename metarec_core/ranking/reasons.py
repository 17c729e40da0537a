"""The additive shares of list scores as a nested column: why each entry ranks where it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from metarec_core.episodes.types import IntArray, Support
from metarec_core.learners.base import LinearPredictor
from metarec_core.ranking.grid import on_grid
from metarec_core.ranking.topk import top_k
from metarec_core.schema import REASON_TYPE, Columns

DoubleArray = npt.NDArray[np.float64]

_MOST_SHARES = 1 << 22
"""Shares (users x items x support width) made at once."""


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
    """

    item: DoubleArray
    prior: DoubleArray
    named: DoubleArray
    named_item: IntArray
    named_value: DoubleArray
    rest: DoubleArray
    beyond: DoubleArray

    @classmethod
    def empty(cls, n_users: int, k: int, n_named: int) -> Self:
        """Arrays to be filled by :meth:`put`."""
        return cls(
            item=np.zeros((n_users, k)),
            prior=np.zeros((n_users, k)),
            named=np.zeros((n_users, k, n_named)),
            named_item=np.full((n_users, k, n_named), -1, dtype=np.int64),
            named_value=np.zeros((n_users, k, n_named)),
            rest=np.full((n_users, k), np.nan),
            beyond=np.full((n_users, k), np.nan),
        )

    def put(self, rows: IntArray, part: ReasonArrays) -> None:
        """Copy ``part`` into ``rows``; it may name fewer interactions."""
        n_named = part.named.shape[2]
        self.item[rows], self.prior[rows] = part.item, part.prior
        self.rest[rows], self.beyond[rows] = part.rest, part.beyond
        self.named[rows, :, :n_named] = part.named
        self.named_item[rows, :, :n_named] = part.named_item
        self.named_value[rows, :, :n_named] = part.named_value

    def take(self, rows: IntArray, places: IntArray) -> ReasonArrays:
        """The entries at ``(rows, places)``, both ``[R]``, as ``R`` users with one entry each."""
        return ReasonArrays(
            item=self.item[rows, places][:, None],
            prior=self.prior[rows, places][:, None],
            named=self.named[rows, places][:, None],
            named_item=self.named_item[rows, places][:, None],
            named_value=self.named_value[rows, places][:, None],
            rest=self.rest[rows, places][:, None],
            beyond=self.beyond[rows, places][:, None],
        )

    def total(self) -> DoubleArray:
        """The scores that the shares sum to, ``[T, K]``."""
        total: DoubleArray = self.item + self.prior + self.named.sum(axis=2)
        return total + np.nan_to_num(self.rest) + np.nan_to_num(self.beyond)

    def column(self, catalogue: pl.DataFrame) -> pl.Series:
        """The reasons of every entry, in row order, as a list column of ``REASON_TYPE``."""
        n_lists, per_list = self.item.size, self.named.shape[2] + 4
        others = ((0, 0), (0, 0), (2, 2))
        items = np.pad(self.named_item, others, constant_values=-1).ravel()
        share = np.concatenate(
            [
                self.item[..., None],
                self.prior[..., None],
                self.named,
                self.rest[..., None],
                self.beyond[..., None],
            ],
            axis=2,
        ).ravel()
        kinds = np.tile(np.arange(per_list), n_lists)
        there = (items >= 0) | (kinds < 2) | ((kinds >= per_list - 2) & ~np.isnan(share))
        names = pl.Series(["item", "prior", *["support"] * (per_list - 4), "rest", "beyond"])
        index = pl.Series(items)
        index = index.set(index < 0, None)
        reasons = pl.DataFrame(
            {
                "there": there,
                "kind": names.gather(kinds),
                "item_id": catalogue[Columns.ITEM].gather(index),
                "title": catalogue[Columns.TITLE].gather(index),
                "value": np.pad(self.named_value, others).ravel(),
                "share": share,
            }
        ).select(
            pl.when("there").then(
                pl.struct(
                    "kind",
                    "item_id",
                    "title",
                    pl.when(pl.col("item_id").is_not_null()).then("value").alias("value"),
                    "share",
                )
            )
        )
        column = reasons.to_series().reshape((n_lists, per_list)).arr.to_list().list.drop_nulls()
        return column.cast(pl.List(REASON_TYPE)).alias(Columns.REASONS)


def explain(
    predictor: LinearPredictor, support: Support, items: Tensor, n_users: int, n_named: int
) -> ReasonArrays:
    """Reasons of the first ``n_users`` rows of a block.

    Shares lie on the grid of :mod:`metarec_core.ranking.grid`, so that they add up exactly
    whatever the learner's own precision.

    Args:
        predictor: The block's predictor.
        support: The block's support, ``[B, S]``.
        items: Catalogue indices of the entries, ``[B, K]``.
        n_users: Real users in the block.
        n_named: Support interactions to name, 0 or more.
    """
    width = support.items.shape[1]
    n_named = min(n_named, width)
    step = max(1, _MOST_SHARES // support.items.numel())
    parts: list[tuple[Tensor, ...]] = []
    for start in range(0, items.shape[1], step):
        shares = predictor.shares(items[:, start : start + step])
        mask = support.mask[:n_users, None, :]
        by_support = shares.support[:n_users].double().masked_fill(~mask, 0.0)
        strength = on_grid(by_support).abs().masked_fill(~mask, -1.0)
        if n_named:
            strongest = top_k(strength.flatten(0, 1), n_named).indices
            strongest = strongest.view(*by_support.shape[:2], n_named)
        else:
            strongest = torch.zeros(
                *by_support.shape[:2], 0, dtype=torch.int64, device=items.device
            )
        named = by_support.gather(2, strongest)
        unnamed = by_support.scatter(2, strongest, 0.0).sum(dim=2)
        has_rest = support.sizes[:n_users, None] > n_named
        rows = torch.arange(n_users, device=items.device)[:, None, None]
        there = support.mask[rows, strongest]
        beyond = (
            torch.full_like(unnamed, torch.nan)
            if shares.beyond is None
            else on_grid(shares.beyond[:n_users].double())
        )
        parts.append(
            (
                on_grid(shares.item[:n_users].double()),
                on_grid(shares.prior[:n_users].double()),
                on_grid(named),
                support.items[rows, strongest].masked_fill(~there, -1),
                support.values[rows, strongest].double(),
                on_grid(unnamed).masked_fill(~has_rest, torch.nan),
                beyond,
            )
        )
    return ReasonArrays(
        *(torch.cat(list(same), dim=1).cpu().numpy() for same in zip(*parts, strict=True))
    )
