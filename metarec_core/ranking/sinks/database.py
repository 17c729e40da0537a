"""Lists in a table of any database that SQLAlchemy knows, nested columns as JSON text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
import pyarrow.parquet as pq
import sqlalchemy as sa

from metarec_core.errors import ConfigError, ServiceError
from metarec_core.ranking.sinks.base import (
    CODE_VERSION,
    KEY,
    MODEL_VERSION,
    RUN_ID,
    SINK_COLUMNS,
    Stamp,
    wrong_columns,
)
from metarec_core.ranking.sinks.secrets import redacted
from metarec_core.schema import RECOMMENDATIONS_SCHEMA, Columns

Answer = TypeVar("Answer")

_NAME = sa.String(255)
"""Ids: some databases cannot index a text without a bound."""

_TYPES: dict[str, sa.types.TypeEngine[Any]] = {
    Columns.USER: _NAME,
    Columns.ITEM: _NAME,
    RUN_ID: _NAME,
    MODEL_VERSION: _NAME,
    CODE_VERSION: _NAME,
    Columns.SEGMENT: sa.String(20),
}
"""Columns whose type does not follow from the contract's."""


class DatabaseSink:
    """A :class:`~metarec_core.ranking.sinks.base.Sink` behind a SQLAlchemy URL.

    The rows of the run date are deleted and written anew in one transaction: an upsert that works
    in every dialect and takes along the rows that are gone. ``run_date``, ``user_id`` and ``rank``
    are the table's primary key. Rows are sent in batches; memory holds one row group.

    Args:
        url: Where and as whom; no error or log repeats its secrets.
        table: Name of the table.
        db_schema: Schema of the table; None for the connection's own.
        batch_rows: Rows sent at once.

    Raises:
        ConfigError: If the dialect or its driver is not installed, the driver is an asynchronous
            one, or an option of the URL is of the wrong kind.
    """

    def __init__(
        self, url: sa.URL, table: str, *, db_schema: str | None = None, batch_rows: int = 2000
    ) -> None:
        self.url, self.batch_rows = url, batch_rows
        self.table = _table(table, db_schema)
        self.label = f"{url.get_backend_name()} table {self.table.fullname}"
        found: str | None = None
        try:
            # Parameters are people's data, and stay out of errors.
            self.engine = sa.create_engine(
                url, hide_parameters=True, echo=False, poolclass=sa.pool.NullPool
            )
        except (ImportError, sa.exc.ArgumentError, ValueError, TypeError) as error:
            found = redacted(f"{type(error).__name__}: {error}", url)
        # Outside of the except block: a chained error would repeat what was redacted.
        if found is not None:
            raise ConfigError(
                self.label,
                found=found,
                wanted="an installed dialect and driver, and options that it takes",
                next_step=f"install the driver of {url.drivername} where the night runs, or "
                "correct the URL",
            )
        if self.engine.dialect.is_async:
            raise ConfigError(
                self.label,
                found=f"the asynchronous driver {self.engine.dialect.driver}",
                wanted="a synchronous driver, such as that of postgresql+psycopg",
                next_step="name a synchronous driver at the start of the URL, and install it where "
                "the night runs",
            )

    @contextmanager
    def replacing(self, shards: Sequence[Path], stamp: Stamp) -> Iterator[int]:
        """See :class:`~metarec_core.ranking.sinks.base.Sink`."""
        connection = self._ask(self.engine.connect)
        try:
            self._ask(lambda: self._prepare(connection))
            transaction = self._ask(connection.begin)
            gone = sa.delete(self.table).where(self.table.c.run_date == stamp.run_date)
            self._ask(lambda: connection.execute(gone))
            rows = 0
            for batch in _batches(shards, stamp, self.batch_rows):
                self._ask(partial(connection.execute, sa.insert(self.table), batch))
                rows += len(batch)
            yield rows
            self._ask(transaction.commit)
        finally:
            # What was not committed is rolled back with its connection, if that still answers.
            with suppress(sa.exc.SQLAlchemyError, OSError):
                connection.close()

    def _prepare(self, connection: sa.Connection) -> None:
        """Create the table, or see that the one that is there has the same columns.

        By itself: some databases end a transaction where a table is created.
        """
        inspector = sa.inspect(connection)
        if inspector.has_table(self.table.name, schema=self.table.schema):
            known = inspector.get_columns(self.table.name, schema=self.table.schema)
            found = [str(column["name"]) for column in known]
            if set(found) != set(SINK_COLUMNS):
                raise wrong_columns(self.label, found)
        else:
            self.table.create(connection, checkfirst=True)
        connection.commit()

    def _ask(self, action: Callable[[], Answer]) -> Answer:
        """What the database answers, or an error that repeats nothing secret."""
        try:
            return action()
        except (sa.exc.SQLAlchemyError, OSError) as error:
            lost = self._lost(error)
        # Outside of the except block: a chained error would repeat what is redacted here.
        raise lost

    def _lost(self, error: Exception) -> ServiceError:
        # The driver's own words, without the statement and its rows.
        cause = getattr(error, "orig", None) or error
        return ServiceError(
            self.label,
            found=f"{type(cause).__name__}: {redacted(str(cause), self.url)[:300]}",
            wanted="a database that takes all rows of the run date in one transaction",
            next_step="see that it can be reached and written, then run again: finished stages are "
            "reused. The table is as it was, and no new lists are published",
        )


def _table(name: str, db_schema: str | None) -> sa.Table:
    columns = [
        sa.Column(column, _type(column), primary_key=column in KEY, autoincrement=False)
        for column in SINK_COLUMNS
    ]
    return sa.Table(name, sa.MetaData(), *columns, schema=db_schema)


def _type(column: str) -> sa.types.TypeEngine[Any]:
    if column in _TYPES:
        return _TYPES[column]
    kind = RECOMMENDATIONS_SCHEMA[column]
    if kind == pl.Date():
        return sa.Date()
    if kind.is_integer():
        return sa.Integer()
    return sa.Double() if kind.is_float() else sa.Text()


def _batches(
    shards: Sequence[Path], stamp: Stamp, batch_rows: int
) -> Iterator[list[dict[str, Any]]]:
    """The shards' rows as the table's, in their order."""
    nested = [name for name, kind in RECOMMENDATIONS_SCHEMA.items() if kind.is_nested()]
    origin = {
        RUN_ID: stamp.run_id,
        MODEL_VERSION: stamp.model_version,
        CODE_VERSION: stamp.code_version,
    }
    for shard in shards:
        with pq.ParquetFile(shard) as file:
            for batch in file.iter_batches(batch_size=batch_rows):
                frame = pl.DataFrame(pl.from_arrow(batch))
                yield (
                    frame.with_columns(_json_text(name) for name in nested)
                    .with_columns(pl.lit(text).alias(name) for name, text in origin.items())
                    .select(SINK_COLUMNS)
                    .to_dicts()
                )


def _json_text(name: str) -> pl.Expr:
    """A list column as JSON text; Polars writes JSON of structs alone."""
    wrapped = pl.struct(pl.col(name).alias("x")).struct.json_encode()
    return wrapped.str.strip_prefix('{"x":').str.strip_suffix("}").alias(name)
