"""Lists in a table of a DuckDB file, nested columns as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from metarec_core.errors import ServiceError
from metarec_core.ranking.sinks.base import (
    CODE_VERSION,
    MODEL_VERSION,
    RUN_ID,
    SINK_COLUMNS,
    Stamp,
    wrong_columns,
)
from metarec_core.schema import Columns


class DuckDBSink:
    """A :class:`~metarec_core.ranking.sinks.base.Sink` in a DuckDB file.

    DuckDB locks a file as a whole: while another process has it open, writing fails at once. The
    table has no declared key, whose index would have to fit in memory; that run date, user and
    rank are unique was judged before, and a run date is replaced as a whole.

    Args:
        path: The file; it is created if need be.
        table: Name of the table; a plain one.
        memory_limit: Memory before DuckDB spills beside the file, such as ``1GB``.
    """

    def __init__(self, path: Path, table: str, *, memory_limit: str = "1GB") -> None:
        self.path, self.table, self.memory_limit = path, table, memory_limit
        self.label = f"DuckDB table {table} in {path}"

    @contextmanager
    def replacing(self, shards: Sequence[Path], stamp: Stamp) -> Iterator[int]:
        """See :class:`~metarec_core.ranking.sinks.base.Sink`."""
        with self._explained():
            connection = self._connect()
        try:
            with self._explained():
                connection.execute("BEGIN")
                rows = self._write(connection, shards, stamp)
            yield rows
            with self._explained():
                connection.execute("COMMIT")
        finally:
            # What was not committed is rolled back with its connection.
            with suppress(duckdb.Error):
                connection.close()

    def _connect(self) -> duckdb.DuckDBPyConnection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return duckdb.connect(
            str(self.path),
            config={
                "memory_limit": self.memory_limit,
                # Nothing is ever downloaded or loaded from outside.
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )

    def _write(
        self, connection: duckdb.DuckDBPyConnection, shards: Sequence[Path], stamp: Stamp
    ) -> int:
        table = _quoted(self.table)
        rows = 0
        for place, shard in enumerate(shards):
            lists = _with_origin(connection, shard, stamp)
            if place == 0:
                self._prepare(connection, lists)
                connection.execute(
                    f"DELETE FROM {table} WHERE {Columns.RUN_DATE} = ?",  # noqa: S608 (quoted)
                    [stamp.run_date],
                )
            lists.insert_into(table)
            rows += pq.read_metadata(shard).num_rows
        return rows

    def _prepare(
        self, connection: duckdb.DuckDBPyConnection, lists: duckdb.DuckDBPyRelation
    ) -> None:
        """Create the table, or see that the one that is there has the same columns."""
        known = connection.execute(
            "SELECT column_name FROM duckdb_columns() WHERE table_name = ? AND "
            "schema_name = current_schema() AND database_name = current_database() "
            "ORDER BY column_index",
            [self.table],
        ).fetchall()
        if not known:
            lists.limit(0).create(_quoted(self.table))
        elif [name for (name,) in known] != list(SINK_COLUMNS):
            raise wrong_columns(self.label, [name for (name,) in known])

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (duckdb.Error, OSError) as error:
            raise ServiceError(
                self.label,
                found=" ".join(str(error).split())[:300],
                wanted="a file that this process alone can write",
                next_step="close whatever else has the file open (DuckDB lets one process in) or "
                "free disk space, then run again; the table is as it was, and no new lists are "
                "published",
            ) from error


def _with_origin(
    connection: duckdb.DuckDBPyConnection, shard: Path, stamp: Stamp
) -> duckdb.DuckDBPyRelation:
    origin = {
        RUN_ID: stamp.run_id,
        MODEL_VERSION: stamp.model_version,
        CODE_VERSION: stamp.code_version,
    }
    columns = [duckdb.ColumnExpression(name) for name in SINK_COLUMNS if name not in origin]
    constants = [duckdb.ConstantExpression(text).alias(name) for name, text in origin.items()]
    # A directory such as run_date=2026-11-24 above the file is not a column.
    lists = connection.read_parquet(str(shard), hive_partitioning=False)
    return lists.select(*columns, *constants)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
