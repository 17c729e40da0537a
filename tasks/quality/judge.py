"""Judges Parquet tables by suites: DuckDB holds the data, Great Expectations the verdict."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from metarec_core.errors import StorageError
from metarec_core.home import Home
from tasks.quality.failures import failures
from tasks.quality.report import DOCS, QualityReport, Severity
from tasks.quality.site import SuitePage, publish_site
from tasks.quality.suites import Parameters, applicable, read_suite


@dataclass(frozen=True, slots=True)
class Options:
    """How tables are judged; none of it changes the verdict.

    Attributes:
        max_named_rows: Offending rows that each failure names, at most 200 where the expectation
            is a query (the limit of Great Expectations).
        memory_limit: Memory that DuckDB may use before it spills, such as ``1GB``.
        threads: Threads of DuckDB.
        data_docs: Bring Data Docs up to date.
    """

    max_named_rows: int = 20
    memory_limit: str = "1GB"
    threads: int = 2
    data_docs: bool = True


DEFAULT_OPTIONS = Options()

BLIND_TO_NAN = "filter_pushdown,statistics_propagation"
"""Parquet's statistics leave NaN out. With these two, DuckDB takes the statistics at their word and
finds no row outside a range, nor any that is not finite, in a column that holds NaN."""

KEYS = ("source_row", "user_id", "rank", "item_id")
"""Columns that name an offending row, where the table has them."""


def judge(
    home: Home,
    suites: Mapping[str, str],
    tables: Mapping[str, Path],
    parameters: Parameters,
    *,
    derived: Mapping[str, str] | None = None,
    options: Options = DEFAULT_OPTIONS,
) -> QualityReport:
    """Judge tables by suites and bring Data Docs up to date.

    Nothing outside the home is written; what DuckDB spills is removed at the end.

    Args:
        home: Where Data Docs are published.
        suites: Table that each suite judges, by the name of the suite.
        tables: Parquet file of each table, or directory of its parts; suites may read them all by
            these names.
        parameters: Values of the suites' ``$PARAMETER`` entries, also the one row of the table
            ``parameters``; expectations that need one that is None are left out.
        derived: Tables computed once from the others, by name, as SQL of this package.
        options: Limits, and whether Data Docs are published.

    Raises:
        StorageError: If a table or the home cannot be read or written.
        ConfigError: If a suite cannot be read.
    """
    from tasks.quality.engine import SuiteRun, evaluate  # three seconds; see the package

    runs: list[SuiteRun] = []
    rows: dict[str, int] = {}
    left_out: dict[str, int] = {}
    with _scratch(home) as scratch:
        with _database(scratch, options) as connection:
            _fill(connection, tables, parameters, derived or {})
            for name, table in suites.items():
                columns = connection.view(table).columns
                suite, left_out[name] = applicable(
                    read_suite(name),
                    columns=set(columns),
                    tables={*tables, *(derived or {})},
                    parameters=parameters,
                )
                rows[name] = _count(connection, table)
                runs.append(SuiteRun(suite, table, [key for key in KEYS if key in columns]))
            results = evaluate(
                runs,
                database=scratch.name,
                parameters=parameters,
                max_named_rows=options.max_named_rows,
                site=scratch / "site" if options.data_docs else None,
            )
        pages = [
            SuitePage(
                suite=run.suite["name"],
                table=run.table,
                rows=rows[run.suite["name"]],
                evaluated=len(result),
                left_out=left_out[run.suite["name"]],
                failures=failures(run.suite, result, max_named_rows=options.max_named_rows),
            )
            for run, result in zip(runs, results, strict=True)
        ]
        if options.data_docs:
            publish_site(home, scratch / "site", pages)
    found = [failure for page in pages for failure in page.failures]
    critical = [failure for failure in found if failure.severity is Severity.CRITICAL]
    return QualityReport(
        success=not critical,
        critical=critical,
        warnings=[failure for failure in found if failure.severity is Severity.WARNING],
        evaluated=sum(page.evaluated for page in pages),
        left_out=sum(page.left_out for page in pages),
        rows=rows,
        docs=DOCS,
    )


@contextmanager
def _scratch(home: Home) -> Iterator[Path]:
    try:
        home.root.mkdir(parents=True, exist_ok=True)
        directory = tempfile.TemporaryDirectory(prefix=".quality_", dir=home.root.absolute())
    except OSError as error:
        raise StorageError(
            f"home directory {home.root}",
            found=f"{type(error).__name__}: {error.strerror or error}",
            wanted="a directory that can be written",
            next_step="check free space and permissions, or set METAREC_HOME elsewhere",
        ) from error
    with directory:
        yield Path(directory.name)


@contextmanager
def _database(scratch: Path, options: Options) -> Iterator[duckdb.DuckDBPyConnection]:
    # The scratch directory's name is unique, and names the database for the engine too, which
    # could not connect to it if these settings were given with the connection.
    connection = duckdb.connect(f":memory:{scratch.name}")
    settings = {
        "memory_limit": options.memory_limit,
        "threads": options.threads,
        "temp_directory": str(scratch / "spill"),
        "disabled_optimizers": BLIND_TO_NAN,
    }
    try:
        for name, value in settings.items():
            connection.execute(f"SET GLOBAL {name} = ?", [value])
        yield connection
    finally:
        connection.close()


def _fill(
    connection: duckdb.DuckDBPyConnection,
    tables: Mapping[str, Path],
    parameters: Parameters,
    derived: Mapping[str, str],
) -> None:
    columns = ", ".join(f"? AS {_quoted(name)}" for name in parameters) or "NULL AS none"
    connection.execute(f"CREATE TABLE parameters AS SELECT {columns}", list(parameters.values()))
    for name, path in tables.items():
        with _reading(f"table {path}"):
            # A directory is a table in parts; names such as run_date=... are no columns.
            source = path / "*.parquet" if path.is_dir() else path
            connection.read_parquet(str(source), hive_partitioning=False).create_view(name)
    for name, query in derived.items():
        with _reading(f"tables {', '.join(tables)} of one stage"):
            connection.execute(f"CREATE TABLE {_quoted(name)} AS {query}")


@contextmanager
def _reading(subject: str) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise StorageError(
            subject,
            found=str(error).splitlines()[0],
            wanted="readable Parquet as the stage writes it",
            next_step="remove the stage's directory; the next run builds it anew",
        ) from error


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    [(rows,)] = connection.view(table).aggregate("count(*)").fetchall()
    return int(rows)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
