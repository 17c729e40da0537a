"""One Parquet file out of a stream of tables: the same rows give the same bytes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from metarec_core.schema import Columns

ROW_GROUP = 1 << 16
"""Rows of a row group: what a writer holds in memory, and what a reader may skip as a whole."""

_SOUGHT_BY = (Columns.RUN_DATE, Columns.USER, Columns.ITEM, Columns.RANK)
"""Columns by which readers skip row groups."""


def write_stream(path: Path, tables: Iterable[pa.Table | pl.DataFrame]) -> int:
    """Write tables into one Parquet file and flush it to the disk; return the rows.

    Memory holds one row group, however many rows there are.

    Args:
        path: The file; it is replaced.
        tables: Rows in order, as tables of one schema; at least one, if only an empty one.

    Raises:
        OSError: If the file cannot be written.
        ValueError: If there is no table.
    """
    rows = 0
    groups = _row_groups(tables)
    first = next(groups)
    # Most figures hardly repeat: a dictionary of them takes time and room. Ratings do.
    words = [
        path for path, kind in _leaves(first.schema) if _is_text(kind) or path.endswith(".value")
    ]
    options: dict[str, Any] = {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": words,
        "write_statistics": [name for name in first.schema.names if name in _SOUGHT_BY],
    }
    with pq.ParquetWriter(path, first.schema, **options) as writer:
        for group in chain([first], groups):
            writer.write_table(group, row_group_size=ROW_GROUP)
            rows += len(group)
    with path.open("rb") as written:
        os.fsync(written.fileno())
    return rows


def _leaves(fields: Iterable[pa.Field], above: str = "") -> Iterator[tuple[str, pa.DataType]]:
    """Columns as Parquet names them, and what they hold."""
    for field in fields:
        path, kind = f"{above}{field.name}", field.type
        while pa.types.is_list(kind) or pa.types.is_large_list(kind):
            path, kind = f"{path}.list.element", kind.value_type
        if pa.types.is_struct(kind):
            yield from _leaves(kind.fields, f"{path}.")
        else:
            yield path, kind


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _row_groups(tables: Iterable[pa.Table | pl.DataFrame]) -> Iterator[pa.Table]:
    """The same rows in tables of ``ROW_GROUP`` rows, the last one excepted; at least one table.

    Each is one piece of memory of its own: what lies in the file does not depend on how the rows
    were cut before.
    """
    waiting: list[pa.Table] = []
    n_waiting, given = 0, False
    for part in tables:
        table = part.to_arrow() if isinstance(part, pl.DataFrame) else part
        while n_waiting + len(table) >= ROW_GROUP:
            n_taken = ROW_GROUP - n_waiting
            yield _joined([*waiting, table.slice(0, n_taken)])
            table, given = table.slice(n_taken), True
            waiting, n_waiting = [], 0
        if len(table) or not waiting:
            waiting.append(table)
            n_waiting += len(table)
    if n_waiting or not given:
        yield _joined(waiting)


def _joined(tables: list[pa.Table]) -> pa.Table:
    if not tables:
        raise ValueError("no table for a shard; wanted at least one, if only an empty one")
    return pa.concat_tables(tables).combine_chunks()
