"""Raw files become typed tables; what cannot be read is named, cell by cell."""

from __future__ import annotations

from pathlib import Path

import duckdb

from metarec_core.config import CleaningConfig, ValidationConfig
from metarec_core.errors import DatasetError
from metarec_core.ingest.cells import Cell, cells
from metarec_core.ingest.database import connect, identifier, literal
from metarec_core.ingest.descriptor import DatasetDescriptor
from metarec_core.ingest.layout import read_layout, unreadable
from metarec_core.ingest.lines import SHOWN_CHARACTERS, header_lines, load_lines
from metarec_core.ingest.source import Source
from metarec_core.schema import Columns, Table
from metarec_core.storage import StageFacts, hash_file, hash_json

REJECTS = "rejects.parquet"
DESCRIPTOR = "dataset.json"
_PARQUET = "(FORMAT parquet, COMPRESSION zstd)"
_REJECTS_IN_ORDER = (
    'SELECT "table", line, "column", "text", error FROM rejects '
    'ORDER BY "position", line, "column", error'
)
_KEY_COLUMNS = {Table.INTERACTIONS: 4, Table.USERS: 1, Table.ITEMS: 2}
"""How many columns stand before ``source_row``; features stand after it."""


def fingerprint(descriptor: DatasetDescriptor, root: Path) -> str:
    """Hash of the descriptor and of every file that it reads.

    Raises:
        DatasetError: If a file cannot be read.
    """
    files = {}
    for table, source in descriptor.sources().items():
        path = root / source.path
        try:
            files[table.value] = hash_file(path)
        except OSError as error:
            raise unreadable(path, f"{type(error).__name__}: {error.strerror}", source) from error
    return hash_json([descriptor, files])


def ingest_tables(
    descriptor: DatasetDescriptor,
    root: Path,
    out: Path,
    *,
    validation: ValidationConfig,
    cleaning: CleaningConfig,
) -> StageFacts:
    """Write the dataset's tables with our column names and types.

    Nulls, duplicates and values out of range stay in: validation judges them. Rows that cannot
    be read as the descriptor says (a wrong number of cells, a cell that is no number) stand in
    ``rejects.parquet`` (``table, line, column, text, error``) and not in their table. ``line``
    counts the lines of the file from 1; a quoted cell that spans lines counts as one, and blank
    lines are not counted for single cells. Of a Parquet file it is the row.

    Args:
        descriptor: What the files mean.
        root: Directory of the files.
        out: Directory to write.
        validation: How many rows may be unparsable, and how many a message names.
        cleaning: Memory and threads of DuckDB.

    Returns:
        Rows read and kept of the interactions; ``facts``: ``rows`` by table, with ``source``,
        ``kept`` and ``rejected``, and ``rejects``, the first of them.

    Raises:
        DatasetError: If a file or column is missing, too many rows are unparsable, or there is
            no interaction.
        StorageError: If memory or disk do not suffice.
    """
    counts: dict[str, dict[str, int]] = {}
    with connect(cleaning, out) as connection:
        connection.execute(
            'CREATE TABLE rejects ("table" VARCHAR, "position" INTEGER, line BIGINT, '
            '"column" VARCHAR, "text" VARCHAR, error VARCHAR)'
        )
        for table, source in descriptor.sources().items():
            counts[table.value] = _ingest(connection, descriptor, table, source, root, out)
            _require_few_rejects(
                connection, table, root / source.path, counts[table.value], validation
            )
        target = literal(str(out / REJECTS))
        connection.execute(f"COPY ({_REJECTS_IN_ORDER}) TO {target} {_PARQUET}")
        named = connection.execute(
            f"{_REJECTS_IN_ORDER} LIMIT ?", [validation.max_named_rows]
        ).fetchall()
    text = descriptor.model_dump_json(indent=2)
    (out / DESCRIPTOR).write_text(text, encoding="utf-8")
    interactions = counts[Table.INTERACTIONS.value]
    keys = ("table", "line", "column", "text", "error")
    return StageFacts(
        rows_in=interactions["source"],
        rows_out=interactions["kept"],
        facts={
            "rows": counts,
            "rejects": [dict(zip(keys, row, strict=True)) for row in named],
        },
    )


def _ingest(
    connection: duckdb.DuckDBPyConnection,
    descriptor: DatasetDescriptor,
    table: Table,
    source: Source,
    root: Path,
    out: Path,
) -> dict[str, int]:
    path = root / source.path
    layout = read_layout(connection, source, path, table.value)
    made = cells(table, source, layout, descriptor)
    load_lines(connection, table, source, path, layout, [cell.column for cell in made])
    _type_lines(connection, made, f"{table.value}.features of {descriptor.name}")
    fallible = [cell for cell in made if cell.wanted is not None]
    for cell in fallible:
        _reject_cells(connection, table, cell, header_lines(source))
    bad = " OR ".join(_unparsable(cell) for cell in fallible) or "false"
    columns = [identifier(cell.name) for cell in made]
    columns.insert(_KEY_COLUMNS[table], Columns.SOURCE_ROW)
    query = f"SELECT {', '.join(columns)} FROM typed WHERE NOT ({bad}) ORDER BY source_row"  # noqa: S608 (names are quoted)
    target = literal(str(out / f"{table.value}.parquet"))
    connection.execute(f"COPY ({query}) TO {target} {_PARQUET}")
    parsed = _count(connection, "SELECT count(*) FROM typed")
    kept = _count(connection, f"SELECT count(*) FROM typed WHERE NOT ({bad})")  # noqa: S608
    broken = _count(connection, "SELECT count(*) FROM broken")
    connection.execute("DROP TABLE typed")
    connection.execute("DROP TABLE broken")
    return {"source": parsed + broken, "kept": kept, "rejected": parsed + broken - kept}


def _type_lines(connection: duckdb.DuckDBPyConnection, made: list[Cell], place: str) -> None:
    texts = ", ".join(f"{cell.text} AS {cell.written}" for cell in made)
    values = ", ".join(f"{cell.typed} AS {identifier(cell.name)}" for cell in made)
    kept = "".join(f", {cell.written}" for cell in made if cell.wanted is not None)
    try:
        connection.execute(
            f"CREATE TABLE typed AS SELECT source_row, {values}{kept} "  # noqa: S608 (names and literals are quoted)
            f"FROM (SELECT source_row, {texts} FROM lines)"
        )
    except duckdb.InvalidInputException as error:
        raise DatasetError(
            f"a pattern under {place}",
            found=" ".join(str(error).split())[:300],
            wanted="patterns that DuckDB can run: no look-ahead, look-behind or back-reference",
            next_step="rewrite the pattern in the descriptor",
        ) from error
    connection.execute("DROP TABLE lines")


def _unparsable(cell: Cell) -> str:
    return f"({cell.written} IS NOT NULL AND {identifier(cell.name)} IS NULL)"


def _reject_cells(
    connection: duckdb.DuckDBPyConnection, table: Table, cell: Cell, offset: int
) -> None:
    connection.execute(
        "INSERT INTO rejects SELECT $table, $position, source_row + $offset, $column, "  # noqa: S608 (names are quoted)
        f"left({cell.written}, $shown), $error FROM typed WHERE {_unparsable(cell)}",
        {
            "table": table.value,
            "position": list(Table).index(table),
            "offset": offset,
            "column": cell.column,
            "shown": SHOWN_CHARACTERS,
            "error": f"not {cell.wanted}",
        },
    )


def _require_few_rejects(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    path: Path,
    counts: dict[str, int],
    validation: ValidationConfig,
) -> None:
    share = counts["rejected"] / max(counts["source"], 1)
    if share > validation.max_unparsable_fraction:
        rows = connection.execute(
            'SELECT line, "column", "text", error FROM rejects WHERE "table" = ? '
            'ORDER BY line, "column", error LIMIT ?',
            [table.value, validation.max_named_rows],
        ).fetchall()
        named = "; ".join(
            f"line {line}{f', column {column!r}' if column else ''}: {text!r} is {error}"
            for line, column, text, error in rows
        )
        raise DatasetError(
            f"file {path}",
            found=f"{counts['rejected']} of {counts['source']} rows that cannot be read: {named}",
            wanted=f"a share of at most {validation.max_unparsable_fraction:g}",
            next_step="correct the lines, name texts that mean 'not known' under "
            f"{table.value}.null_values, or raise validation.max_unparsable_fraction to drop them",
        )
    if table is Table.INTERACTIONS and counts["kept"] == 0:
        raise DatasetError(
            f"file {path}",
            found=f"no interaction ({counts['source']} rows, {counts['rejected']} unreadable)",
            wanted="at least one row",
            next_step="check that the export that writes it has run",
        )


def _count(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0
