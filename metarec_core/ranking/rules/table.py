"""The rules table: which items, users and segments a rule speaks of, and when."""

from __future__ import annotations

from datetime import time
from enum import StrEnum
from pathlib import Path

import polars as pl

from metarec_core.errors import ConfigError
from metarec_core.ingest.hints import did_you_mean, listing
from metarec_core.ranking.rules.findings import RuleFinding, rows_named
from metarec_core.schema import SEGMENT_BANDS, Columns
from metarec_core.serving.cells import as_text


class RuleKind(StrEnum):
    """What a row of the table says of its item.

    ``available``: the item is shown only within one of its windows. ``deny``: it is not shown.
    ``allow``: users whom any allow row in force reaches, by whatever scope, are shown only items
    of the allow rows that reach them. ``pin``: it stands at that rank.
    """

    AVAILABLE = "available"
    ALLOW = "allow"
    DENY = "deny"
    PIN = "pin"


class RuleColumns:
    """Columns of the rules table beside ``item_id``, ``user_id`` and ``segment``."""

    ROW = "row"
    RULE = "rule"
    FROM = "from"
    UNTIL = "until"
    POSITION = "position"


RULES_SCHEMA = pl.Schema(
    {
        RuleColumns.ROW: pl.Int64(),
        RuleColumns.RULE: pl.String(),
        Columns.ITEM: pl.String(),
        Columns.USER: pl.String(),
        Columns.SEGMENT: pl.String(),
        RuleColumns.FROM: pl.Date(),
        RuleColumns.UNTIL: pl.Date(),
        RuleColumns.POSITION: pl.Int32(),
    }
)
"""A checked rules table. ``row`` is the 1-based data row of the file. A row without user and
segment is for everyone. It is in force from the date ``from`` (inclusive) until the date
``until`` (exclusive); null means without end."""

_COLUMNS = tuple(name for name in RULES_SCHEMA if name != RuleColumns.ROW)
_REQUIRED = (RuleColumns.RULE, Columns.ITEM)


def read_table(path: Path) -> tuple[pl.DataFrame, list[RuleFinding]]:
    """Read and check a rules table.

    Args:
        path: Parquet if it ends in ``.parquet``; any other is read as CSV in UTF-8 with a header.

    Returns:
        The table as ``RULES_SCHEMA``, repeated rows left out, and remarks.

    Raises:
        ConfigError: If the file cannot be read, or a column or a cell is wrong; the message names
            file, row and column.
    """
    subject = f"rules table {path}"
    try:
        if path.suffix == ".parquet":
            raw = pl.read_parquet(path)
        else:
            raw = pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).partition("\n\n")[0]
        raise ConfigError(
            subject,
            found=f"{type(error).__name__}: {' '.join(reason.split())[:300]}",
            wanted="a readable CSV file in UTF-8 with a header, or a Parquet file",
            next_step="correct 'table' in the rules document, or write the file again",
        ) from error
    return check_table(raw, subject)


def check_table(raw: pl.DataFrame, subject: str) -> tuple[pl.DataFrame, list[RuleFinding]]:
    """Bring a frame of rules to ``RULES_SCHEMA``.

    Args:
        raw: Columns ``rule`` and ``item_id``, and any of the others, in any order.
        subject: What to call the table in messages.

    Returns:
        The table, repeated rows left out, and remarks.

    Raises:
        ConfigError: If a column or a cell is wrong.
    """
    _check_columns(raw, subject)
    table = pl.DataFrame(
        [
            pl.int_range(1, len(raw) + 1, eager=True).alias(RuleColumns.ROW),
            *(_text(raw, name) for name in (*_REQUIRED, Columns.USER, Columns.SEGMENT)),
            _dates(raw, RuleColumns.FROM, subject),
            _dates(raw, RuleColumns.UNTIL, subject),
            _positions(raw, subject),
        ]
    ).cast(RULES_SCHEMA)
    # A blank line is no rule.
    table = table.filter(~pl.all_horizontal(pl.col(_COLUMNS).is_null()))
    _check_rows(table, subject)
    if table.is_empty():
        return table, [RuleFinding("empty_table", 0, f"{subject} has no rows")]
    first = table.select(pl.struct(_COLUMNS).is_first_distinct()).to_series()
    repeated = table.filter(~first)[RuleColumns.ROW].to_list()
    findings = []
    if repeated:
        message = f"{subject} repeats earlier rows word for word in {rows_named(repeated)}"
        findings.append(RuleFinding("duplicated_rows", len(repeated), message))
    return table.filter(first), findings


def _check_columns(raw: pl.DataFrame, subject: str) -> None:
    unknown = [name for name in raw.columns if name not in _COLUMNS]
    lacking = [name for name in _REQUIRED if name not in raw.columns]
    if unknown or lacking:
        parts = [f"unknown columns {listing(map(repr, unknown))}"] if unknown else []
        parts += [f"no column {listing(map(repr, lacking))}"] if lacking else []
        hint = did_you_mean(unknown[0], _COLUMNS) if unknown else ""
        raise ConfigError(
            subject,
            found=" and ".join(parts),
            wanted=f"columns out of {listing(_COLUMNS)}, among them {listing(_REQUIRED)}",
            next_step=f"{hint}rename or remove columns, or add those that are missing",
        )
    nested = [name for name in raw.columns if raw[name].dtype.is_nested()]
    if nested:
        raise ConfigError(
            f"{subject}, column {nested[0]}",
            found=f"cells of type {raw[nested[0]].dtype}",
            wanted="one value a cell",
            next_step="write one row for each value",
        )


def _text(raw: pl.DataFrame, name: str) -> pl.Series:
    if name not in raw.columns:
        return pl.Series(name, [None] * len(raw), dtype=pl.String)
    text = as_text(raw[name]).str.strip_chars()
    return text.set(text == "", None).alias(name)


def _dates(raw: pl.DataFrame, name: str, subject: str) -> pl.Series:
    wanted = "a date such as 2026-01-31, or nothing"
    if name in raw.columns and raw[name].dtype in (pl.Date, pl.Datetime):
        dates = raw[name].dt.date()
        within_the_day = raw[name].cast(pl.Datetime("us")).dt.time() != time()
        _refuse(raw[name].cast(pl.String), within_the_day, subject, wanted)
        return dates
    text = _text(raw, name)
    dates = text.str.to_date("%Y-%m-%d", strict=False)
    _refuse(text, dates.is_null() & text.is_not_null(), subject, wanted)
    return dates


def _positions(raw: pl.DataFrame, subject: str) -> pl.Series:
    text = _text(raw, RuleColumns.POSITION)
    numbers = text.cast(pl.Int32, strict=False)
    wrong = text.is_not_null() & ~(numbers >= 1).fill_null(value=False)
    _refuse(text, wrong, subject, "a whole number from 1, the rank of a pin")
    return numbers


def _refuse(text: pl.Series, wrong: pl.Series, subject: str, wanted: str) -> None:
    rows = (wrong.fill_null(value=False).arg_true() + 1).to_list()
    if rows:
        raise ConfigError(
            f"{subject}, {rows_named(rows)}, column {text.name}",
            found=repr(text[rows[0] - 1]),
            wanted=wanted,
            next_step="correct the cells and run again",
        )


def _check_rows(table: pl.DataFrame, subject: str) -> None:
    rule, position = pl.col(RuleColumns.RULE), pl.col(RuleColumns.POSITION)
    user, segment = pl.col(Columns.USER), pl.col(Columns.SEGMENT)
    bands = [name for _, name in SEGMENT_BANDS]
    kinds = [kind.value for kind in RuleKind]
    pins = rule == RuleKind.PIN
    tests: list[tuple[pl.Expr, str, str]] = [
        (rule.is_null(), RuleColumns.RULE, f"one of {listing(kinds)}"),
        (~rule.is_in(kinds), RuleColumns.RULE, f"one of {listing(kinds)}"),
        (pl.col(Columns.ITEM).is_null(), Columns.ITEM, "the id of an item"),
        (~segment.is_in(bands), Columns.SEGMENT, f"a support-size band: {listing(bands)}"),
        (
            user.is_not_null() & segment.is_not_null(),
            Columns.SEGMENT,
            "a user_id or a segment or neither, not both",
        ),
        (
            (rule == RuleKind.AVAILABLE) & (user.is_not_null() | segment.is_not_null()),
            RuleColumns.RULE,
            "no user_id and no segment: windows are the same for everyone; use allow or deny",
        ),
        (pins & position.is_null(), RuleColumns.POSITION, "the rank at which a pin stands, from 1"),
        (~pins & position.is_not_null(), RuleColumns.POSITION, "nothing: only pins have a rank"),
        (
            pl.col(RuleColumns.FROM) >= pl.col(RuleColumns.UNTIL),
            RuleColumns.UNTIL,
            "a date after 'from', as 'from' is inclusive and 'until' exclusive",
        ),
    ]
    for test, column, wanted in tests:
        wrong = table.filter(test.fill_null(value=False))
        if len(wrong):
            cell = wrong[column][0]
            hint = did_you_mean(str(cell), [*kinds, *bands]) if isinstance(cell, str) else ""
            raise ConfigError(
                f"{subject}, {rows_named(wrong[RuleColumns.ROW])}, column {column}",
                found="nothing" if cell is None else repr(str(cell)),
                wanted=wanted,
                next_step=f"{hint}correct the rows and run again",
            )
