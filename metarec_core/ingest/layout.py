"""What columns a file really has, and where the ones that a descriptor names stand."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import duckdb

from metarec_core.errors import DatasetError
from metarec_core.ingest.database import file_pattern
from metarec_core.ingest.hints import did_you_mean, listing
from metarec_core.ingest.source import Source


@dataclass(frozen=True, slots=True)
class Layout:
    """Columns of a file, in order.

    Attributes:
        names: As the file or the descriptor calls them.
        types: DuckDB types; ``VARCHAR`` throughout for a text file.
    """

    names: tuple[str, ...]
    types: tuple[str, ...]

    def type_of(self, name: str) -> str:
        """DuckDB type of a column."""
        return self.types[self.names.index(name)]

    def place_of(self, name: str) -> str:
        """What a column is called while it is read: ``c`` and its place.

        Names in a file may repeat, or differ in case alone, which SQL does not tell apart.
        """
        return f"c{self.names.index(name)}"


def read_layout(
    connection: duckdb.DuckDBPyConnection, source: Source, path: Path, setting: str
) -> Layout:
    """Columns of ``path``, among them every one that ``source`` names.

    Args:
        connection: An open database.
        source: How the file is written and which columns are wanted.
        path: The file.
        setting: Where the source stands in the descriptor, for messages.

    Raises:
        DatasetError: If the file cannot be read, is empty, or lacks a column.
    """
    layout = (
        _parquet_layout(connection, path)
        if source.format == "parquet"
        else (_text_layout(source, path))
    )
    wanted = {f"{setting}.columns.{name}": column for name, column in source.columns.items()}
    wanted |= {
        f"{setting}.features.{name}.column": spec.column for name, spec in source.features.items()
    }
    for place, column in wanted.items():
        count = layout.names.count(column)
        if count != 1:
            raise DatasetError(
                f"file {path}, column {column!r}",
                found=f"{'it twice' if count else 'no such column'} among the columns "
                f"{listing(map(repr, layout.names))}",
                wanted=f"the one column that the descriptor names at {place}",
                next_step=f"{did_you_mean(column, layout.names)}correct {place}"
                + (", or the delimiter" if len(layout.names) == 1 else ""),
            )
    return layout


def _text_layout(source: Source, path: Path) -> Layout:
    names = source.names or _header(source, path)
    return Layout(tuple(names), ("VARCHAR",) * len(names))


def _header(source: Source, path: Path) -> list[str]:
    try:
        if source.encoding == "utf-16":
            with path.open(encoding="utf-16", newline="") as text:
                line = text.readline()
        else:
            # One line is decoded, not a block: a wrong byte further down is named with its line.
            with path.open("rb") as stream:
                encoding = "utf-8-sig" if source.encoding == "utf-8" else source.encoding
                line = stream.readline().decode(encoding)
    except (OSError, UnicodeError) as error:
        raise unreadable(path, f"{type(error).__name__}: {error}", source) from error
    line = line.rstrip("\r\n")
    if not line.strip():
        raise DatasetError(
            f"file {path}",
            found="an empty first line",
            wanted="a header that names the columns",
            next_step="add one, or state 'header: false' and 'names' in the descriptor",
        )
    if source.quote and len(source.delimiter) == 1:
        try:
            cells = next(csv.reader([line], delimiter=source.delimiter, quotechar=source.quote))
        except csv.Error as error:
            raise unreadable(path, f"a broken header: {error}", source) from error
    else:
        cells = line.split(source.delimiter)
    return [cell.strip() for cell in cells]


def _parquet_layout(connection: duckdb.DuckDBPyConnection, path: Path) -> Layout:
    try:
        rows = connection.execute(
            "DESCRIBE SELECT * FROM read_parquet(?)", [file_pattern(path)]
        ).fetchall()
    except duckdb.Error as error:
        raise unreadable(path, str(error), None) from error
    return Layout(tuple(row[0] for row in rows), tuple(row[1] for row in rows))


def unreadable(path: Path, reason: str, source: Source | None) -> DatasetError:
    """The error for a file that cannot be read as the descriptor says it is written."""
    written = (
        "Parquet"
        if source is None
        else f"text in {source.encoding} with delimiter {source.delimiter!r}"
    )
    return DatasetError(
        f"file {path}",
        found=" ".join(reason.split())[:300],
        wanted=f"a file that can be read as {written}",
        next_step="correct format, encoding, delimiter or quote in the descriptor, or the file",
    )
