"""Set-wise cleaning of the tables of users and items."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import duckdb

from metarec_core.cleaning.accounting import Accounting, Action
from metarec_core.cleaning.interactions import count_rows
from metarec_core.features.spec import FeatureSpec
from metarec_core.ingest.database import file_pattern, identifier, trimmed
from metarec_core.schema import Columns, FeatureKind, Table

_ID = {Table.USERS: Columns.USER, Table.ITEMS: Columns.ITEM}
# No feature has such a name: the descriptor allows letters, digits and underscores.
_TRIMMED, _NOT_FINITE = '":trimmed"', '":not_finite"'


def clean_side_table(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    raw: Path | None,
    features: Mapping[str, FeatureSpec],
    accounting: Accounting,
) -> None:
    """Make the table ``users`` or ``items`` out of a raw file and of the table ``pairs``.

    Dropped are rows with ``null_id`` and, of a repeated id, all but the last row of the source
    (``duplicate``). Changed are rows that are ``trimmed`` (blanks around an id, title or
    category), ``not_finite`` (a number that is none becomes null) or get ``title_from_id``. Ids
    that occur in the interactions alone are added without features (``from_interactions``).

    Args:
        connection: An open database that has ``pairs``.
        table: Users or items.
        raw: The file of raw rows; None when the dataset has no such table.
        features: Its feature columns.
        accounting: The books to enter all this in.
    """
    if raw is not None:
        _read(connection, table, raw, features, accounting)
    else:
        columns = [f"{_ID[table]} VARCHAR", f"{Columns.SOURCE_ROW} BIGINT"]
        if table is Table.ITEMS:
            columns.insert(1, f"{Columns.TITLE} VARCHAR")
        connection.execute(f"CREATE TABLE {table.value} ({', '.join(columns)})")
    key = _ID[table]
    title = {Columns.TITLE: key} if table is Table.ITEMS else {}
    names = ", ".join([key, *title])
    values = ", ".join([key, *title.values()])
    added = count_rows(
        connection,
        f"INSERT INTO {table.value} ({names}) SELECT DISTINCT {values} FROM pairs "  # noqa: S608 (our own names)
        f"WHERE {key} NOT IN (SELECT {key} FROM {table.value})",
    )
    accounting.count(table, Action.ADDED, "from_interactions", added)


def _read(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    raw: Path,
    features: Mapping[str, FeatureSpec],
    accounting: Accounting,
) -> None:
    key = _ID[table]
    texts = [key] + ([Columns.TITLE] if table is Table.ITEMS else [])
    texts += [
        name
        for name, spec in features.items()
        if spec.kind in (FeatureKind.CATEGORICAL, FeatureKind.TEXT)
    ]
    numbers = [name for name, spec in features.items() if spec.kind is FeatureKind.NUMERIC]
    replaced = [
        f"nullif({trimmed(identifier(name))}, '') AS {identifier(name)}" for name in texts
    ] + [
        f"(CASE WHEN isfinite({identifier(name)}) THEN {identifier(name)} END) "
        f"AS {identifier(name)}"
        for name in numbers
    ]
    blank_around = [f"{identifier(name)} <> {trimmed(identifier(name))}" for name in texts]
    not_finite = [f"NOT isfinite({identifier(name)})" for name in numbers]
    connection.execute(
        f"CREATE TABLE side AS SELECT * REPLACE ({', '.join(replaced)}), "  # noqa: S608 (names are quoted)
        f"{_any(blank_around)} AS {_TRIMMED}, {_any(not_finite)} AS {_NOT_FINITE} "
        "FROM read_parquet($path)",
        {"path": file_pattern(raw)},
    )
    accounting.count(table, Action.READ, "", count_rows(connection, "SELECT count(*) FROM side"))
    nameless = count_rows(connection, f"DELETE FROM side WHERE {key} IS NULL")  # noqa: S608
    accounting.count(table, Action.DROPPED, "null_id", nameless)
    repeated = count_rows(
        connection,
        "DELETE FROM side WHERE source_row NOT IN "  # noqa: S608
        f"(SELECT max(source_row) FROM side GROUP BY {key})",
    )
    accounting.count(table, Action.DROPPED, "duplicate", repeated)
    for reason, column in (("trimmed", _TRIMMED), ("not_finite", _NOT_FINITE)):
        rows = count_rows(connection, f"SELECT count(*) FROM side WHERE {column}")  # noqa: S608
        accounting.count(table, Action.CHANGED, reason, rows)
    if table is Table.ITEMS:
        rows = count_rows(connection, "UPDATE side SET title = item_id WHERE title IS NULL")
        accounting.count(table, Action.CHANGED, "title_from_id", rows)
    kept = count_rows(connection, "SELECT count(*) FROM side")
    accounting.count(table, Action.KEPT, "", kept)
    connection.execute(
        f"CREATE TABLE {table.value} AS SELECT * EXCLUDE ({_TRIMMED}, {_NOT_FINITE}) FROM side"  # noqa: S608
    )
    connection.execute("DROP TABLE side")


def _any(conditions: list[str]) -> str:
    return " OR ".join(f"coalesce({condition}, false)" for condition in conditions) or "false"
