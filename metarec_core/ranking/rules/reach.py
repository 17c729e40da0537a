"""What compiled rules reach: settings that no list could obey, and rows without effect."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl

from metarec_core.errors import ConfigError
from metarec_core.ranking.rules.categories import CategoryRules
from metarec_core.ranking.rules.compiled import CompiledRules
from metarec_core.ranking.rules.contradictions import in_force, unexpired
from metarec_core.ranking.rules.findings import RuleFinding, rows_named
from metarec_core.ranking.rules.items import BoolArray
from metarec_core.ranking.rules.load import Rules
from metarec_core.ranking.rules.table import RuleColumns, RuleKind
from metarec_core.schema import Columns

_ROW, _KIND, _ITEM = pl.col(RuleColumns.ROW), pl.col(RuleColumns.RULE), pl.col("item")


def check_reach(rules: Rules, compiled: CompiledRules, rows: pl.DataFrame) -> None:
    """Refuse what no list could obey.

    Args:
        rules: The rules.
        compiled: Their compiled form.
        rows: Rules in force, with ``item`` and ``user``.

    Raises:
        ConfigError: If fewer items of a category are open to anyone than its quota, or the pins
            of one scope alone break a cap or leave quotas no room.
    """
    categories = compiled.categories
    anyone = compiled.open_to_anyone()
    for place in np.flatnonzero(categories.quotas).tolist():
        n_open = int((categories.of(place) & anyone).sum())
        quota = int(categories.quotas[place])
        if compiled.n_users and n_open < quota:
            raise ConfigError(
                f"{rules.name}, setting quotas.{categories.names[place]}",
                found=f"a quota of {quota}, and {n_open} open items of that category",
                wanted="a quota that at least one list could meet",
                next_step="lower the quota, or open more items of the category",
            )
    known = _ITEM.is_not_null() & (pl.col(Columns.USER).is_null() | pl.col("user").is_not_null())
    pins = rows.filter((_KIND == RuleKind.PIN) & known)
    if categories.names and len(pins):
        _check_pins(rules, compiled.k, categories, anyone, pins)


def _check_pins(
    rules: Rules, k: int, categories: CategoryRules, anyone: BoolArray, pins: pl.DataFrame
) -> None:
    items = pins["item"].to_numpy()
    scope = (Columns.USER, Columns.SEGMENT)
    flags = {str(c): categories.of(c)[items] for c in range(len(categories.names))}
    scopes = (
        pins.with_columns(pl.Series("open", anyone[items]), **flags)
        .group_by(scope)
        .agg(_ROW.sort(), pl.col("open").sum(), pl.col(*flags).sum())
        .sort(pl.col(RuleColumns.ROW).list.first())
    )
    counts = scopes.select(*flags).to_numpy().astype(np.int64)
    for place, category in np.argwhere(counts > categories.caps).tolist():
        name = categories.names[category]
        raise ConfigError(
            f"{rules.table_name}, {rows_named(scopes[RuleColumns.ROW][place])}, "
            f"and {rules.name}, setting caps.{name}",
            found=f"{counts[place, category]} pins of that category in one scope, and a cap of "
            f"{categories.caps[category]}",
            wanted="no more pins of a category than its cap",
            next_step="remove pins, or raise the cap",
        )
    places = k - scopes["open"].cast(pl.Int64).to_numpy().astype(np.int64)
    needs = np.maximum(categories.quotas - counts, 0)
    fitting = np.maximum(needs.max(axis=1) * categories.most_with_quota, needs.sum(axis=1))
    for place in np.flatnonzero(fitting > places * categories.most_with_quota).tolist():
        raise ConfigError(
            f"{rules.table_name}, {rows_named(scopes[RuleColumns.ROW][place])}, "
            f"and {rules.name}, setting quotas",
            found=f"pins of one scope that leave {places[place]} of {k} places, and quotas that "
            "need more",
            wanted="room for the quotas beside the pins",
            next_step="remove pins, lower quotas, or ask for longer lists (recommend.k)",
        )


def remarks(
    rules: Rules, compiled: CompiledRules, table: pl.DataFrame, run_date: date
) -> list[RuleFinding]:
    """What is no reason to stop, and yet should be heard.

    Args:
        rules: The rules.
        compiled: Their compiled form.
        table: All rows, with ``item``, ``user`` and ``band``.
        run_date: Date of the lists.

    Raises:
        ConfigError: If a rule speaks of an unknown item and ``unknown_items`` is ``error``.
    """
    live, rows = unexpired(table, run_date), in_force(table, run_date)
    over = table.join(live.select(RuleColumns.ROW), on=RuleColumns.ROW, how="anti")
    # An item whose windows are all over stays closed: that row has an effect.
    over = over.filter(_KIND != RuleKind.AVAILABLE)
    unknown = live.filter(_ITEM.is_null())
    if len(unknown) and rules.document.unknown_items == "error":
        raise ConfigError(
            f"{rules.table_name}, {rows_named(unknown[RuleColumns.ROW])}, column {Columns.ITEM}",
            found=repr(unknown[Columns.ITEM][0]),
            wanted="an item of the catalogue",
            next_step="correct the rows, or set 'unknown_items: warn'",
        )
    strangers = live.filter(pl.col(Columns.USER).is_not_null() & pl.col("user").is_null())
    present = np.unique(compiled.pins.band_of_user)
    absent = live.filter(pl.col("band").is_not_null() & ~pl.col("band").is_in(present.tolist()))
    open_now = pl.Series("open", compiled.open_to_anyone(), dtype=pl.Boolean)
    named = rows.filter(_KIND.is_in([RuleKind.PIN, RuleKind.ALLOW]) & _ITEM.is_not_null())
    shut = named.filter(~open_now.gather(named["item"]))
    of_rows = [
        ("expired", over, f"no longer in force on {run_date}", None),
        ("unknown_items", unknown, "not in the catalogue", Columns.ITEM),
        ("unknown_users", strangers, "none of the users that lists are for", Columns.USER),
        ("segment_without_users", absent, "a segment without users", Columns.SEGMENT),
        ("closed_items", shut, "pinned or allowed, and closed to everyone", Columns.ITEM),
    ]
    found = [
        RuleFinding(
            kind,
            len(about),
            f"{rules.table_name}, {rows_named(about[RuleColumns.ROW])}, without effect: {what}"
            + ("" if column is None else f" ({about[column][0]!r})"),
        )
        for kind, about, what, column in of_rows
        if len(about)
    ]
    return [*found, *_of_lists(rules, compiled)]


def _of_lists(rules: Rules, compiled: CompiledRules) -> list[RuleFinding]:
    found = []
    categories = compiled.categories
    users_of_mask = np.bincount(compiled.mask_of_user, minlength=len(compiled.masks))
    for place in np.flatnonzero(categories.quotas).tolist():
        n_open = compiled.masks[:, categories.of(place)].sum(axis=1)
        lists = int(users_of_mask[n_open < categories.quotas[place]].sum())
        if lists:
            message = (
                f"{rules.name}: the quota of {categories.names[place]} is out of reach in "
                f"{_lists(lists)}, as a segment's rules or an allow list leave too few items of it"
            )
            found.append(RuleFinding("unreachable_quota", lists, message))
    everyone = np.arange(compiled.n_users)
    empty = int((compiled.open_counts(everyone) == 0).sum())
    if empty:
        message = f"{rules.name}: no item is left for {_lists(empty)} by rules and consumption"
        found.append(RuleFinding("empty_lists", empty, message))
    return found


def _lists(n: int) -> str:
    return f"{n} list{'s' if n != 1 else ''}"
