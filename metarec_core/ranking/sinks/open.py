"""The sinks that settings ask for, and all of them written as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from metarec_core.ranking.sinks.base import Sink, Stamp
from metarec_core.ranking.sinks.settings import SinksConfig


def open_sinks(config: SinksConfig, root: Path, environment: Mapping[str, str]) -> tuple[Sink, ...]:
    """The sinks of the settings; nothing is connected to yet.

    Args:
        config: Which.
        root: What relative paths are relative to: the home.
        environment: Where addresses and credentials are.

    Raises:
        ConfigError: If a variable holds no URL, or a driver is not installed.
    """
    sinks: list[Sink] = []
    if config.duckdb is not None:
        from metarec_core.ranking.sinks.duckdb_table import DuckDBSink

        path = root / Path(config.duckdb.path).expanduser()
        sinks.append(DuckDBSink(path, config.duckdb.table, memory_limit=config.duckdb.memory_limit))
    if config.database is not None:
        from metarec_core.ranking.sinks.database import DatabaseSink
        from metarec_core.ranking.sinks.secrets import url_from

        sinks.append(
            DatabaseSink(
                url_from(environment, config.database.url_variable),
                config.database.table,
                db_schema=config.database.db_schema,
                batch_rows=config.database.batch_rows,
            )
        )
    return tuple(sinks)


@contextmanager
def replacing_in_all(sinks: Sequence[Sink], shards: Sequence[Path], stamp: Stamp) -> Iterator[None]:
    """Write every sink, and commit them, one after the other, when the block ends well.

    Nothing is committed before everything is written: a sink that cannot be written, the likely
    fault, leaves them all as they were. Only a commit that fails after another one succeeded
    leaves them apart, until the run is tried again.

    Raises:
        ConfigError: As :meth:`~metarec_core.ranking.sinks.base.Sink.replacing`.
        ServiceError: As :meth:`~metarec_core.ranking.sinks.base.Sink.replacing`.
    """
    with ExitStack() as stack:
        for sink in sinks:
            stack.enter_context(sink.replacing(shards, stamp))
        yield
