"""Load a file's rows into DuckDB as they are written; set aside those that fall apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from metarec_core.errors import DatasetError
from metarec_core.ingest.database import file_pattern, identifier
from metarec_core.ingest.layout import Layout, unreadable
from metarec_core.ingest.source import Source
from metarec_core.schema import Table

SHOWN_CHARACTERS = 200
"""How much of a rejected text is kept."""


def load_lines(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    source: Source,
    path: Path,
    layout: Layout,
    columns: Iterable[str],
) -> None:
    """Make the tables ``lines`` and ``broken``.

    ``lines`` has ``source_row`` (1-based data row, broken ones counted) and the ``columns``, named
    by their places (``c0``, ``c3``), as text unless the file has types. ``broken`` has ``line``,
    once each, and every broken line also stands in ``rejects``.

    Raises:
        DatasetError: If the file cannot be read, or an open quote swallows lines.
    """
    wanted = sorted({column for column in columns if column})
    if source.format == "parquet":
        _load_parquet(connection, path, layout, wanted)
    else:
        _load_text(connection, table, source, path, layout, wanted)


def header_lines(source: Source) -> int:
    """Lines of the file that stand before its first row."""
    return 1 if source.format == "csv" and source.header else 0


def _load_parquet(
    connection: duckdb.DuckDBPyConnection, path: Path, layout: Layout, columns: list[str]
) -> None:
    chosen = ", ".join(f"{identifier(column)} AS {layout.place_of(column)}" for column in columns)
    with _readable(path, None):
        connection.execute(
            f"CREATE TABLE lines AS SELECT file_row_number + 1 AS source_row, {chosen} "  # noqa: S608 (identifiers are quoted)
            "FROM read_parquet(?, file_row_number = true)",
            [file_pattern(path)],
        )
    connection.execute("CREATE TABLE broken (line BIGINT)")


def _load_text(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    source: Source,
    path: Path,
    layout: Layout,
    columns: list[str],
) -> None:
    chosen = ", ".join(layout.place_of(column) for column in columns)
    with _readable(path, source):
        connection.execute(
            f"CREATE TEMP TABLE parsed AS SELECT row_number() OVER () AS row, {chosen} "  # noqa: S608 (names are places)
            "FROM read_csv($path, delim = $delimiter, quote = $quote, escape = $quote, "
            "header = $header, encoding = $encoding, columns = $columns, auto_detect = false, "
            "nullstr = '', store_rejects = true, rejects_limit = 0)",
            {
                "path": file_pattern(path),
                "delimiter": source.delimiter,
                "quote": source.quote,
                "header": source.header,
                "encoding": source.encoding,
                "columns": {f"c{index}": "VARCHAR" for index in range(len(layout.names))},
            },
        )
    _refuse_open_quote(connection, path)
    _set_broken_aside(connection, table, layout)
    # The j-th broken line stands after (line - header - j) rows that were parsed.
    connection.execute(
        "CREATE TABLE lines AS WITH places AS ("
        "  SELECT line - $offset - row_number() OVER (ORDER BY line) AS parsed_before,"
        "    row_number() OVER (ORDER BY line) AS broken_so_far FROM broken"
        "), shifts AS ("
        "  SELECT parsed_before, max(broken_so_far) AS shift FROM places GROUP BY parsed_before"
        ") SELECT parsed.row + coalesce(shifts.shift, 0) AS source_row, parsed.* EXCLUDE (row)"
        "  FROM parsed ASOF LEFT JOIN shifts ON parsed.row > shifts.parsed_before",
        {"offset": header_lines(source)},
    )
    connection.execute("DROP TABLE parsed")
    connection.execute("DROP TABLE reject_errors")
    connection.execute("DROP TABLE reject_scans")


@contextmanager
def _readable(path: Path, source: Source | None) -> Iterator[None]:
    try:
        yield
    except (
        duckdb.InvalidInputException,
        duckdb.InvalidTypeException,
        duckdb.ConversionException,
        duckdb.IOException,
    ) as error:
        raise unreadable(path, str(error).split("\n")[0], source) from error


def _refuse_open_quote(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    row = connection.execute(
        "SELECT line, left(csv_line, 60) FROM reject_errors "
        "WHERE error_type = 'UNQUOTED VALUE' AND contains(rtrim(csv_line, chr(10)), chr(10)) "
        "ORDER BY line LIMIT 1"
    ).fetchone()
    if row is not None:
        raise DatasetError(
            f"file {path}, line {row[0]}",
            found=f"a quote that is opened and never closed: {row[1]!r}",
            wanted="quotes in pairs; the rows that follow cannot be told apart",
            next_step="close or double the quote, or state 'quote: \"\"' in the descriptor if "
            "quotes are ordinary characters in this file",
        )


def _set_broken_aside(connection: duckdb.DuckDBPyConnection, table: Table, layout: Layout) -> None:
    # One row a line: DuckDB names every lacking or surplus cell.
    connection.execute(
        "CREATE TABLE broken AS SELECT line, min(column_idx) AS column_idx, "
        "arg_min(error_type, column_idx) AS kind, any_value(csv_line) AS csv_line, "
        "arg_min(error_message, column_idx) AS message FROM reject_errors GROUP BY line"
    )
    connection.execute(
        "INSERT INTO rejects SELECT $table, $position, line, "
        "  CASE WHEN kind NOT IN ('MISSING COLUMNS', 'TOO MANY COLUMNS') "
        "    THEN $names[CAST(column_idx AS BIGINT)] END, "
        "  left(ltrim(csv_line, chr(10) || chr(13)), $shown), "
        "  CASE kind WHEN 'MISSING COLUMNS' THEN 'a row with too few cells (' || $wanted || "
        "' wanted)' WHEN 'TOO MANY COLUMNS' THEN 'a row with too many cells (' || $wanted || "
        "' wanted)' ELSE message END FROM broken",
        {
            "table": table.value,
            "position": list(Table).index(table),
            "names": list(layout.names),
            "shown": SHOWN_CHARACTERS,
            "wanted": str(len(layout.names)),
        },
    )
