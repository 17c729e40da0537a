"""Pins: items that stand at fixed ranks of the lists of their scope."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl
from numba import njit

from metarec_core.episodes.types import IntArray
from metarec_core.ranking.rules.items import BoolArray
from metarec_core.ranking.rules.table import RuleColumns, RuleKind
from metarec_core.ranking.search import Closed
from metarec_core.schema import SEGMENT_BANDS, Columns


@dataclass(frozen=True, slots=True)
class Pins:
    """Pins by scope.

    Attributes:
        k: Most entries of a list.
        shared: Item at each rank, -1 for none, ``[1 + bands, k]``: row 0 for everyone, row
            ``1 + b`` for users in band ``b`` of ``SEGMENT_BANDS``.
        band_of_user: ``[U]``.
        indptr: Boundaries of the users' own pins, ``[U + 1]``.
        items: Items of the users' own pins.
        ranks: Their ranks, from 0.
    """

    k: int
    shared: IntArray
    band_of_user: IntArray
    indptr: IntArray
    items: IntArray
    ranks: IntArray

    @property
    def any(self) -> bool:
        """Whether there is a pin at all."""
        return bool(len(self.items)) or bool((self.shared >= 0).any())

    def part(self, start: int, stop: int) -> Pins:
        """The pins of users ``start`` up to, not including, ``stop``."""
        first, last = self.indptr[start], self.indptr[stop]
        return replace(
            self,
            band_of_user=self.band_of_user[start:stop],
            indptr=self.indptr[start : stop + 1] - first,
            items=self.items[first:last],
            ranks=self.ranks[first:last],
        )

    def resolve(
        self,
        users: IntArray,
        masks: BoolArray,
        mask_of_user: npt.NDArray[np.int32],
        closed: Closed,
    ) -> IntArray:
        """The pins that hold for each user.

        A rank goes to the pin of the narrowest scope (user, then segment, then everyone) whose
        item is open to the user and has no rank yet.

        Args:
            users: Rows, ``[B]``.
            masks: What groups may be shown, ``[G, I]``.
            mask_of_user: ``[U]``.
            closed: What single users may not be shown.

        Returns:
            Item at each rank, -1 where no pin holds, ``[B, k]``.
        """
        out = np.full((len(users), self.k), -1, dtype=np.int64)
        if self.any:
            own = (self.indptr, self.items, self.ranks)
            _resolve(
                *own,
                self.shared,
                self.band_of_user,
                masks,
                mask_of_user,
                closed.indptr,
                closed.items,
                users.astype(np.int64),
                out,
            )
        return out


def open_to_users(
    users: IntArray,
    items: IntArray,
    masks: BoolArray,
    mask_of_user: npt.NDArray[np.int32],
    closed: Closed,
) -> BoolArray:
    """Whether each item may be shown to the user beside it, ``[N]``.

    Args:
        users: Rows, ``[N]``.
        items: Catalogue indices, ``[N]``.
        masks: What groups may be shown, ``[G, I]``.
        mask_of_user: ``[U]``.
        closed: What single users may not be shown.
    """
    result: BoolArray = _open_to_users(
        users, items, masks, mask_of_user, closed.indptr, closed.items
    )
    return result


def compile_pins(rows: pl.DataFrame, band_of_user: IntArray, k: int) -> Pins:
    """Sort pins by scope.

    Args:
        rows: Rules in force, with ``item``, ``user`` and ``band``.
        band_of_user: Index of each user's segment, ``[U]``.
        k: Most entries of a list.
    """
    pins = rows.filter((pl.col(RuleColumns.RULE) == RuleKind.PIN) & pl.col("item").is_not_null())
    pins = pins.with_columns(rank=pl.col(RuleColumns.POSITION).cast(pl.Int64) - 1)
    wide = pins.filter(pl.col(Columns.USER).is_null())
    shared = np.full((1 + len(SEGMENT_BANDS), k), -1, dtype=np.int64)
    scopes = wide["band"].fill_null(-1).to_numpy() + 1
    shared[scopes, wide["rank"].to_numpy()] = wide["item"].to_numpy()
    own = pins.filter(pl.col("user").is_not_null()).sort("user", "rank")
    counts = np.bincount(own["user"].to_numpy(), minlength=len(band_of_user))
    return Pins(
        k,
        shared,
        band_of_user,
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        own["item"].cast(pl.Int64).to_numpy(),
        own["rank"].to_numpy(),
    )


@njit(cache=True, nogil=True)
def _resolve(
    own_indptr: IntArray,
    own_items: IntArray,
    own_ranks: IntArray,
    shared: IntArray,
    band_of_user: IntArray,
    masks: BoolArray,
    mask_of_user: npt.NDArray[np.int32],
    closed_indptr: IntArray,
    closed: IntArray,
    users: IntArray,
    out: IntArray,
) -> None:
    k = out.shape[1]
    for row in range(len(users)):
        user = users[row]
        mask = masks[mask_of_user[user]]
        shut = closed[closed_indptr[user] : closed_indptr[user + 1]]
        slots = out[row]
        for place in range(own_indptr[user], own_indptr[user + 1]):
            _put(slots, own_ranks[place], own_items[place], mask, shut)
        for scope in (1 + band_of_user[user], 0):
            for rank in range(k):
                if shared[scope, rank] >= 0:
                    _put(slots, rank, shared[scope, rank], mask, shut)


@njit(cache=True, nogil=True)
def _put(slots: IntArray, rank: int, item: int, mask: BoolArray, shut: IntArray) -> None:
    if slots[rank] >= 0 or not _is_open(item, mask, shut):
        return
    for other in slots:
        if other == item:
            return
    slots[rank] = item


@njit(cache=True, nogil=True)
def _is_open(item: int, mask: BoolArray, shut: IntArray) -> bool:
    if not mask[item]:
        return False
    place = np.searchsorted(shut, item)
    return not (place < len(shut) and shut[place] == item)


@njit(cache=True, nogil=True)
def _open_to_users(
    users: IntArray,
    items: IntArray,
    masks: BoolArray,
    mask_of_user: npt.NDArray[np.int32],
    closed_indptr: IntArray,
    closed: IntArray,
) -> BoolArray:
    out = np.zeros(len(users), dtype=np.bool_)
    for place in range(len(users)):
        user = users[place]
        shut = closed[closed_indptr[user] : closed_indptr[user + 1]]
        out[place] = _is_open(items[place], masks[mask_of_user[user]], shut)
    return out
