"""Rows of a rules table that cannot be obeyed together."""

from __future__ import annotations

from datetime import date

import polars as pl

from metarec_core.errors import ConfigError
from metarec_core.ranking.rules.findings import rows_named
from metarec_core.ranking.rules.table import RuleColumns, RuleKind
from metarec_core.schema import Columns

_SCOPE = [Columns.USER, Columns.SEGMENT]
_DENIES = pl.col(RuleColumns.RULE) == RuleKind.DENY
_PINS = pl.col(RuleColumns.RULE) == RuleKind.PIN
_START, _END = pl.col("_start"), pl.col("_end")


def check_contradictions(table: pl.DataFrame, subject: str, *, run_date: date, k: int) -> None:
    """Refuse rows that speak against each other, tonight or on a night to come.

    Rows whose window is over are left aside. Rows of different scopes do not contradict each
    other: a deny outweighs an allow and a pin, and of two pins the one of the narrower scope
    (user, then segment, then everyone) has the rank.

    Args:
        table: ``RULES_SCHEMA``.
        subject: What to call the table in messages.
        run_date: Date of the lists.
        k: Most entries of a list.

    Raises:
        ConfigError: If within one scope and on overlapping dates an item is denied and also
            allowed or pinned, two pins want one rank, or an item is pinned at two ranks; or if a
            pin stands beyond ``k``. The message names the rows.
    """
    table = unexpired(table, run_date).with_columns(
        _start=pl.col(RuleColumns.FROM).cast(pl.Int64).fill_null(-(2**40)),
        _end=pl.col(RuleColumns.UNTIL).cast(pl.Int64).fill_null(2**40),
    )
    pins = table.filter(_PINS)
    beyond = pins.filter(pl.col(RuleColumns.POSITION) > k)
    if len(beyond):
        raise ConfigError(
            f"{subject}, {rows_named(beyond[RuleColumns.ROW])}, column {RuleColumns.POSITION}",
            found=f"a pin at rank {beyond[RuleColumns.POSITION][0]}",
            wanted=f"a rank up to {k}, the length of the lists (recommend.k)",
            next_step="lower the position, or ask for longer lists",
        )
    key = [*_SCOPE, Columns.ITEM]
    judged = table.filter(pl.col(RuleColumns.RULE) != RuleKind.AVAILABLE)
    denied = judged.filter(_DENIES).select(key).unique()
    both = judged.filter(~_DENIES).join(denied, on=key, how="semi", nulls_equal=True)
    if len(both):
        # Only what is denied somewhere and allowed elsewhere needs a look at dates.
        suspects = judged.join(both.select(key).unique(), on=key, how="semi", nulls_equal=True)
        _refuse(suspects, key, subject, "an item either denied, or allowed or pinned", _DENIES)
    _refuse(pins, [*_SCOPE, RuleColumns.POSITION], subject, "one pin at a rank")
    _refuse(pins, key, subject, "an item pinned at one rank")


def unexpired(table: pl.DataFrame, run_date: date) -> pl.DataFrame:
    """Rows that are in force on ``run_date`` or later."""
    until = pl.col(RuleColumns.UNTIL)
    return table.filter(until.is_null() | (until > run_date))


def in_force(table: pl.DataFrame, run_date: date) -> pl.DataFrame:
    """Rows that are in force on ``run_date``."""
    start = pl.col(RuleColumns.FROM)
    return unexpired(table, run_date).filter(start.is_null() | (start <= run_date))


def _refuse(
    rows: pl.DataFrame,
    key: list[str],
    subject: str,
    wanted: str,
    side: pl.Expr | None = None,
) -> None:
    """Raise if two rows with the same ``key`` (on different sides) overlap in time."""
    rows = rows.with_columns(_side=pl.lit(value=True) if side is None else side)
    rows = rows.sort(*key, "_start", RuleColumns.ROW)
    # In the order of their starts a row overlaps an earlier one if that ends after it starts: the
    # latest end so far tells, without holding every pair of rows together.
    late: list[pl.Expr] = [
        pl.when(pl.col("_side") == held).then(_END).cum_max().forward_fill().shift(1).over(key)
        for held in (True, False)
    ]
    other = late[0] if side is None else pl.when("_side").then(late[1]).otherwise(late[0])
    hit = rows.filter((other > _START).fill_null(value=False)).sort(RuleColumns.ROW).head(1)
    if hit.is_empty():
        return
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.lit(hit[name][0])) for name in key)
    start, end, own = hit["_start"][0], hit["_end"][0], hit[RuleColumns.ROW][0]
    against = (pl.col("_side") != hit["_side"][0]) if side is not None else pl.lit(value=True)
    overlaps = _START.lt(end) & _END.gt(start) & (pl.col(RuleColumns.ROW) != own)
    pair = pl.concat([hit, rows.filter(same & against & overlaps).sort(RuleColumns.ROW).head(1)])
    raise ConfigError(
        f"{subject}, {rows_named(sorted(pair[RuleColumns.ROW]))}",
        found=" and ".join(_said(row) for row in pair.sort(RuleColumns.ROW).to_dicts()),
        wanted=f"{wanted} within one scope and on overlapping dates",
        next_step="remove one of the rows, or part their dates ('until' is exclusive)",
    )


def _said(row: dict[str, object]) -> str:
    """A row in words, such as ``pin 'i7' at rank 2 for everyone from 2026-01-01``."""
    text = f"{row[RuleColumns.RULE]} {row[Columns.ITEM]!r}"
    if row[RuleColumns.POSITION] is not None:
        text += f" at rank {row[RuleColumns.POSITION]}"
    if row[Columns.USER] is not None:
        text += f" for user {row[Columns.USER]!r}"
    elif row[Columns.SEGMENT] is not None:
        text += f" for segment {row[Columns.SEGMENT]}"
    else:
        text += " for everyone"
    for name in (RuleColumns.FROM, RuleColumns.UNTIL):
        text += f" {name} {row[name]}" if row[name] is not None else ""
    return text
