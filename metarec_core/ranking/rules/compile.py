"""Compile declared rules to masks, closed items and pins of one night's users."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from metarec_core.episodes.types import IntArray, InteractionMatrix
from metarec_core.errors import ConfigError, ModelError
from metarec_core.ranking.rules.age import old_enough
from metarec_core.ranking.rules.categories import CategoryRules, category_rules
from metarec_core.ranking.rules.closed import closed_items
from metarec_core.ranking.rules.compiled import CompiledRules
from metarec_core.ranking.rules.contradictions import check_contradictions, in_force
from metarec_core.ranking.rules.items import BoolArray, ItemFacts
from metarec_core.ranking.rules.load import Rules
from metarec_core.ranking.rules.masks import group_masks
from metarec_core.ranking.rules.pins import compile_pins
from metarec_core.ranking.rules.reach import check_allow_lists, check_reach, remarks
from metarec_core.ranking.rules.table import RuleColumns, RuleKind
from metarec_core.ranking.search import Closed
from metarec_core.schema import SEGMENT_BANDS, Columns

_KIND = pl.col(RuleColumns.RULE)


def compile_rules(
    rules: Rules,
    *,
    catalogue: pl.DataFrame,
    user_ids: pl.Series,
    histories: InteractionMatrix,
    run_date: date,
    k: int,
    facts: ItemFacts | None = None,
    support_sizes: npt.NDArray[np.integer] | None = None,
    candidates: IntArray | None = None,
) -> CompiledRules:
    """What each user may be shown on ``run_date``, and where items are pinned.

    An item is open to a user if it is available, old enough and none of its categories is capped
    at 0, no deny row reaches the user (by id, by segment or for everyone), it is on one of the
    allow lists that reach the user if there are any, and the user has not consumed it or may
    consume it again. A pin puts an open item at its rank; it opens nothing.

    Args:
        rules: The rules.
        catalogue: ``item_id`` in catalogue order, ``I`` rows.
        user_ids: Ids in row order, ``[U]``.
        histories: What each user has interacted with, one row a user, sorted by item.
        run_date: Date of the lists.
        k: Most entries of a list.
        facts: What :func:`item_facts` found out; None if rules name no feature.
        support_sizes: Support size of each user, which decides the segment, ``[U]``; None for the
            number of interactions.
        candidates: Catalogue indices that lists are made of; None for the whole catalogue.

    Raises:
        ConfigError: If rules contradict each other, no list could meet them, an allow list names
            no item of the catalogue, or nothing at all is open; before anything is ranked.
        ModelError: If users and histories do not belong together.
    """
    n_users, n_items = len(user_ids), len(catalogue)
    if histories.n_users != n_users:
        raise ModelError(
            "users to compile rules for",
            found=f"{histories.n_users} rows of histories",
            wanted=f"one for each of {n_users} user ids",
            next_step="take ids and histories from one audience",
        )
    facts = facts or ItemFacts()
    check_contradictions(rules.table, rules.table_name, run_date=run_date, k=k)
    categories = category_rules(rules, facts, n_items, k)
    sizes = histories.counts() if support_sizes is None else support_sizes
    bounds = [lower for lower, _ in SEGMENT_BANDS]
    band_of_user = np.searchsorted(bounds, sizes, side="right").astype(np.int64) - 1
    table = _located(rules.table, catalogue, user_ids)
    rows = in_force(table, run_date)
    check_allow_lists(rules, rows, band_of_user)
    now = int(datetime(run_date.year, run_date.month, run_date.day, tzinfo=UTC).timestamp())

    open_items = old_enough(rules, facts, histories, n_items, now)
    open_items &= _available(table, rows, n_items)
    open_items &= ~_shut_by_caps(categories)
    if candidates is not None:
        open_items &= np.isin(np.arange(n_items), candidates)
    masks, mask_of_user = group_masks(rows, open_items, band_of_user, rules.table_name)
    compiled = CompiledRules(
        k=k,
        open_items=open_items,
        masks=masks,
        mask_sizes=masks.sum(axis=1, dtype=np.int64),
        mask_of_user=mask_of_user,
        closed=closed_items(rules, histories, _denied(rows, n_users), now),
        pins=compile_pins(rows, band_of_user, k),
        categories=categories,
        findings=(),
    )
    _check_open(rules, compiled, run_date)
    check_reach(rules, compiled, rows)
    found = remarks(rules, compiled, table, run_date)
    return replace(compiled, findings=(*rules.findings, *found))


def _located(rows: pl.DataFrame, catalogue: pl.DataFrame, user_ids: pl.Series) -> pl.DataFrame:
    """Rows with ``item``, ``user`` and ``band`` as indices, and whether they are for everyone."""
    items = catalogue.select(Columns.ITEM, item=pl.int_range(pl.len(), dtype=pl.Int64))
    users = pl.DataFrame({Columns.USER: user_ids}).with_columns(
        user=pl.int_range(pl.len(), dtype=pl.Int64)
    )
    bands = {name: place for place, (_, name) in enumerate(SEGMENT_BANDS)}
    return (
        rows.join(items, on=Columns.ITEM, how="left", maintain_order="left")
        .join(users, on=Columns.USER, how="left", maintain_order="left")
        .with_columns(
            band=pl.col(Columns.SEGMENT).replace_strict(bands, return_dtype=pl.Int64),
            everyone=pl.col(Columns.USER).is_null() & pl.col(Columns.SEGMENT).is_null(),
        )
    )


def _available(table: pl.DataFrame, rows: pl.DataFrame, n_items: int) -> BoolArray:
    """Items without windows or within one of them, and not denied to everyone."""
    windowed, within = (
        each.filter((_KIND == RuleKind.AVAILABLE) & pl.col("item").is_not_null())["item"]
        for each in (table, rows)
    )
    denied = rows.filter(
        (_KIND == RuleKind.DENY) & pl.col("everyone") & pl.col("item").is_not_null()
    )["item"]
    open_items = np.ones(n_items, dtype=np.bool_)
    open_items[windowed.to_numpy()] = False
    open_items[within.to_numpy()] = True
    open_items[denied.to_numpy()] = False
    return open_items


def _shut_by_caps(categories: CategoryRules) -> BoolArray:
    shut = sum(1 << int(place) for place in np.flatnonzero(categories.caps == 0))
    result: BoolArray = categories.bits & shut != 0
    return result


def _denied(rows: pl.DataFrame, n_users: int) -> Closed:
    pairs = (
        rows.filter((_KIND == RuleKind.DENY) & pl.col("user").is_not_null())
        .select("user", "item")
        .drop_nulls()
        .unique()
        .sort("user", "item")
    )
    counts = np.bincount(pairs["user"].to_numpy(), minlength=n_users)
    return Closed(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), pairs["item"].to_numpy()
    )


def _check_open(rules: Rules, compiled: CompiledRules, run_date: date) -> None:
    if compiled.open_to_anyone().any() or not compiled.n_users:
        return
    raise ConfigError(
        rules.name,
        found=f"no item that anyone may be shown on {run_date}, out of {compiled.n_items} items",
        wanted="at least one open item",
        next_step="look at 'available' windows, deny and allow rows, min_age_days and caps of 0; "
        "no list was made",
    )
