"""What compiled rules reach: settings that no list could obey, and rows without effect."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl

from metarec_core.episodes.types import IntArray
from metarec_core.errors import ConfigError
from metarec_core.ingest.hints import listing
from metarec_core.ranking.rules.categories import CategoryRules
from metarec_core.ranking.rules.compiled import CompiledRules
from metarec_core.ranking.rules.contradictions import in_force, unexpired
from metarec_core.ranking.rules.findings import RuleFinding, rows_named
from metarec_core.ranking.rules.load import Rules
from metarec_core.ranking.rules.pins import open_to_users
from metarec_core.ranking.rules.table import RuleColumns, RuleKind
from metarec_core.schema import Columns

_ROW, _KIND, _ITEM = pl.col(RuleColumns.ROW), pl.col(RuleColumns.RULE), pl.col("item")
_SCOPE = (Columns.USER, Columns.SEGMENT)


def check_allow_lists(rules: Rules, rows: pl.DataFrame, band_of_user: IntArray) -> None:
    """Refuse an allow list of which the catalogue holds nothing.

    Such a list would close every item to those whom it reaches, most likely for a misspelt id. A
    scope that reaches no user closes nothing and is left aside.

    Args:
        rules: The rules.
        rows: Rules in force, with ``item``, ``user``, ``band`` and ``everyone``.
        band_of_user: Segment of each user as an index into ``SEGMENT_BANDS``, ``[U]``.

    Raises:
        ConfigError: If none of the allow rows of a user, of a segment or for everyone names an
            item of the catalogue, whatever ``unknown_items`` says.
    """
    present = pl.col("band").is_in(np.unique(band_of_user).tolist())
    everyone = pl.col("everyone") & bool(len(band_of_user))
    allows = rows.filter(
        (_KIND == RuleKind.ALLOW) & (pl.col("user").is_not_null() | present | everyone)
    )
    known = allows.filter(_ITEM.is_not_null()).select(_SCOPE).unique()
    lost = allows.join(known, on=_SCOPE, how="anti", nulls_equal=True).sort(RuleColumns.ROW)
    if lost.is_empty():
        return
    user, segment = lost.select(_SCOPE).row(0)
    scope = "everyone"
    if user is not None:
        scope = f"user {user!r}"
    elif segment is not None:
        scope = f"segment {segment}"
    first = lost.join(lost.head(1), on=_SCOPE, how="semi", nulls_equal=True)
    items = [repr(item) for item in first[Columns.ITEM].unique(maintain_order=True)]
    more = lost.select(pl.struct(_SCOPE).n_unique()).item() - 1
    also = f", and {more} more allow list{'s' if more > 1 else ''} of that kind" if more else ""
    raise ConfigError(
        f"{rules.table_name}, {rows_named(first[RuleColumns.ROW])}, column {Columns.ITEM}",
        found=f"an allow list for {scope} of which nothing is in the catalogue: "
        f"{listing(items, limit=5)}{also}",
        wanted="at least one item of the catalogue in each allow list, which closes all else",
        next_step="correct the ids of items, or remove the rows",
    )


def check_reach(rules: Rules, compiled: CompiledRules, rows: pl.DataFrame) -> None:
    """Refuse what no list could obey.

    Args:
        rules: The rules.
        compiled: Their compiled form.
        rows: Rules in force, with ``item``, ``user`` and ``band``.

    Raises:
        ConfigError: If fewer items of a category are open to anyone than its quota, or the pins
            of one scope alone break a cap or leave quotas no room. Of pins count those that can
            stand: whose item is open to anyone of their scope.
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
    if categories.names:
        _check_pins(rules, compiled.k, categories, _pins(compiled, rows))


def _pins(compiled: CompiledRules, rows: pl.DataFrame) -> pl.DataFrame:
    """Pins of known items and users, and whether they are ``open``.

    A user's own pin is open if its item is open to the user, consumption told; any other if a
    mask of those whom it reaches holds the item.
    """
    known = _ITEM.is_not_null() & (pl.col(Columns.USER).is_null() | pl.col("user").is_not_null())
    pins = rows.filter((_KIND == RuleKind.PIN) & known)
    items, users, bands = (
        pins[name].cast(pl.Int64).fill_null(-1).to_numpy() for name in ("item", "user", "band")
    )
    is_open = compiled.open_to_anyone()[items]
    own = users >= 0
    is_open[own] = open_to_users(
        users[own], items[own], compiled.masks, compiled.mask_of_user, compiled.closed
    )
    for band in np.unique(bands[bands >= 0]).tolist():
        masks = np.bincount(compiled.mask_of_user[compiled.pins.band_of_user == band])
        cells = np.ix_(np.flatnonzero(masks), items[bands == band])
        is_open[bands == band] = compiled.masks[cells].any(axis=0)
    return pins.with_columns(pl.Series("open", is_open, dtype=pl.Boolean))


def _check_pins(rules: Rules, k: int, categories: CategoryRules, pins: pl.DataFrame) -> None:
    items, is_open = pins["item"].to_numpy(), pins["open"].to_numpy()
    # Where a cap is 0, it is the cap itself that closes the pins which break it.
    flags = {
        str(c): categories.of(c)[items] & (is_open | (categories.caps[c] == 0))
        for c in range(len(categories.names))
    }
    pins = pins.with_columns(**{name: pl.Series(flag) for name, flag in flags.items()})
    scopes = (
        pins.group_by(_SCOPE)
        .agg(_ROW.filter("open").sort(), pl.col("open").sum(), pl.col(*flags).sum(), at=_ROW.min())
        .sort("at")
    )
    counts = scopes.select(*flags).to_numpy().astype(np.int64)
    for place, category in np.argwhere(counts > categories.caps).tolist():
        name = categories.names[category]
        of_scope = pins.join(scopes[[place]], on=_SCOPE, how="semi", nulls_equal=True)
        against = of_scope.filter(str(category))[RuleColumns.ROW].sort()
        raise ConfigError(
            f"{rules.table_name}, {rows_named(against)}, and {rules.name}, setting caps.{name}",
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
    allows = _KIND == RuleKind.ALLOW
    open_now = pl.Series("open", compiled.open_to_anyone(), dtype=pl.Boolean)
    named = rows.filter(_KIND.is_in([RuleKind.PIN, RuleKind.ALLOW]) & _ITEM.is_not_null())
    shut = named.filter(~open_now.gather(named["item"]))
    pins = _pins(compiled, rows)
    reached = pl.col("band").is_null() | pl.col("band").is_in(present.tolist())
    vain = pins.filter(~pl.col("open") & open_now.gather(pins["item"]) & reached)
    item, none = Columns.ITEM, "without effect: "
    # An allow row has an effect whatever its item is: it is what makes a list of allowed items.
    closes = (
        ": such rows open nothing, and still close all that is not allowed to those whom they reach"
    )
    why = ", by rules or as consumed"
    of_rows = [
        ("expired", over, f"{none}no longer in force on {run_date}", None, ""),
        ("unknown_items", unknown.filter(~allows), f"{none}not in the catalogue", item, ""),
        (
            "unknown_allowed",
            unknown.filter(allows),
            "allowed but not in the catalogue",
            item,
            closes,
        ),
        ("unknown_users", strangers, f"{none}none of the users that lists are for", _SCOPE[0], ""),
        ("segment_without_users", absent, f"{none}a segment without users", _SCOPE[1], ""),
        ("closed_items", shut.filter(~allows), f"{none}pinned, and closed to everyone", item, ""),
        ("closed_allowed", shut.filter(allows), "allowed but closed to everyone", item, closes),
        ("closed_pins", vain, f"{none}pinned for those to whom it is closed", item, why),
    ]
    found = [
        RuleFinding(
            kind,
            len(about),
            f"{rules.table_name}, {rows_named(about[RuleColumns.ROW])}, {what}"
            + ("" if column is None else f" ({about[column][0]!r})")
            + end,
        )
        for kind, about, what, column, end in of_rows
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
