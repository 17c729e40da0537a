"""Masks of groups of users: availability, age, segments and allow lists."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from metarec_core.episodes.types import IntArray
from metarec_core.errors import ConfigError
from metarec_core.ranking.rules.items import BoolArray
from metarec_core.ranking.rules.table import RuleColumns, RuleKind
from metarec_core.schema import SEGMENT_BANDS

Int32Array = npt.NDArray[np.int32]

MASK_CELLS = 1 << 28
"""Most cells (groups x items, a byte each) of all masks together."""

_ALLOWS = pl.col(RuleColumns.RULE) == RuleKind.ALLOW
_DENIES = pl.col(RuleColumns.RULE) == RuleKind.DENY


@dataclass(frozen=True, slots=True)
class _AllowLists:
    """The distinct allow lists of single users.

    Attributes:
        of_user: Number of each user's list, -1 without one, ``[U]``.
        indptr: Boundaries of the lists, ``[L + 1]``.
        items: Items of the lists.
    """

    of_user: IntArray
    indptr: IntArray
    items: IntArray


def group_masks(
    rows: pl.DataFrame, open_items: BoolArray, band_of_user: IntArray, subject: str
) -> tuple[BoolArray, Int32Array]:
    """One mask for all users whose rules are the same.

    Args:
        rows: Rules in force, with ``item``, ``user`` and ``band`` (null: of no use or not given).
            An allow row without ``item`` still makes a list for those whom it reaches.
        open_items: What anyone may be shown, ``[I]``.
        band_of_user: Segment of each user as an index into ``SEGMENT_BANDS``, ``[U]``.
        subject: What messages call the table.

    Returns:
        ``masks`` ``[G, I]``, distinct but for row 0, which is for users without rules of their
        own, and ``mask_of_user`` ``[U]``.

    Raises:
        ConfigError: If groups x items exceeds :data:`MASK_CELLS`.
    """
    lists = _allow_lists(rows, len(band_of_user))
    ruled = rows.filter(pl.col("band").is_not_null() & (_ALLOWS | _DENIES))["band"].unique()
    has_rules = np.zeros(len(SEGMENT_BANDS), dtype=np.bool_)
    has_rules[ruled.to_numpy()] = True
    # A group is a segment with rules (0: none) and an allow list (0: none).
    n_lists = len(lists.indptr)
    codes = np.where(has_rules[band_of_user], band_of_user + 1, 0) * n_lists + lists.of_user + 1
    groups, group_of_user = np.unique(np.concatenate([[0], codes]), return_inverse=True)
    _check_size(len(groups), open_items, subject)
    masks = _masks(rows, open_items, groups // n_lists - 1, groups % n_lists - 1, lists)
    masks, merged = _distinct(masks)
    return masks, merged[group_of_user[1:]]


def _allow_lists(rows: pl.DataFrame, n_users: int) -> _AllowLists:
    of_user = np.full(n_users, -1, dtype=np.int64)
    own = rows.filter(_ALLOWS & pl.col("user").is_not_null())
    # The items as one text: the same list has the same text, exactly.
    lists = (
        own.group_by("user")
        .agg(pl.col("item").drop_nulls().unique().sort())
        .sort("user")
        .with_columns(text=pl.col("item").cast(pl.List(pl.String)).list.join(","))
    )
    distinct = lists.unique("text", keep="first", maintain_order=True).with_row_index("list")
    numbered = lists.join(
        distinct.select("text", "list"), on="text", how="left", maintain_order="left"
    )
    of_user[numbered["user"].to_numpy()] = numbered["list"].cast(pl.Int64).to_numpy()
    lengths = distinct["item"].list.len().cast(pl.Int64).to_numpy()
    filled = distinct["item"].filter(distinct["item"].list.len() > 0)
    return _AllowLists(
        of_user,
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        filled.explode().cast(pl.Int64).to_numpy(),
    )


def _check_size(n_groups: int, open_items: BoolArray, subject: str) -> None:
    if n_groups * len(open_items) > MASK_CELLS:
        raise ConfigError(
            subject,
            found=f"{n_groups} groups of users with allow lists of their own, times "
            f"{len(open_items)} items",
            wanted=f"at most {MASK_CELLS} cells of masks",
            next_step="give many users the same allow list, write lists for segments, or close "
            "items to single users by deny rows, which need no mask",
        )


def _masks(
    rows: pl.DataFrame,
    open_items: BoolArray,
    band_of_group: IntArray,
    list_of_group: IntArray,
    lists: _AllowLists,
) -> BoolArray:
    for_all = pl.col("user").is_null() & pl.col("band").is_null() & pl.col("everyone")
    common = rows.filter(_ALLOWS & for_all)
    allowed = np.zeros((len(band_of_group), len(open_items)), dtype=np.bool_)
    restricted = (list_of_group >= 0) | bool(len(common))
    allowed[:, _items(common)] = True
    shut = np.zeros(len(open_items), dtype=np.bool_)
    for band in np.unique(band_of_group[band_of_group >= 0]).tolist():
        group = band_of_group == band
        of_band = rows.filter(pl.col("band") == band)
        allows = of_band.filter(_ALLOWS)
        restricted |= group & bool(len(allows))
        allowed[np.ix_(group, _items(allows))] = True
    with_list = np.flatnonzero(list_of_group >= 0)
    numbers = list_of_group[with_list]
    lengths = np.diff(lists.indptr)[numbers]
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    allowed[
        np.repeat(with_list, lengths),
        lists.items[np.repeat(lists.indptr[numbers], lengths) + within],
    ] = True
    allowed[~restricted] = True
    allowed &= open_items
    for band in np.unique(band_of_group[band_of_group >= 0]).tolist():
        shut[:] = False
        shut[_items(rows.filter(_DENIES & (pl.col("band") == band)))] = True
        allowed[np.ix_(band_of_group == band, shut)] = False
    return allowed


def _items(rows: pl.DataFrame) -> IntArray:
    return rows["item"].drop_nulls().unique().sort().cast(pl.Int64).to_numpy()


def _distinct(masks: BoolArray) -> tuple[BoolArray, Int32Array]:
    """Each mask once, in order of first appearance, and the new row of each old one."""
    packed = np.ascontiguousarray(np.packbits(masks, axis=1))
    keys = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    if len(first) == len(masks):
        return masks, np.arange(len(masks), dtype=np.int32)
    order = np.argsort(first)
    place = np.empty(len(order), dtype=np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    return masks[first[order]], place[inverse]
