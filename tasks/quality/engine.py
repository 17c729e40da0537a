"""The one module that imports Great Expectations: evaluates suites and renders their pages."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import great_expectations as gx
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)

from tasks.quality.dialect import SCHEME, register
from tasks.quality.suites import Parameters

LIBRARY = "great_expectations"


@dataclass(frozen=True, slots=True)
class SuiteRun:
    """One suite to evaluate.

    Attributes:
        suite: The suite as JSON, reduced to what can be asked.
        table: Table or view of the database that it judges.
        keys: Columns that name a row of it.
    """

    suite: Mapping[str, Any]
    table: str
    keys: Sequence[str]


def evaluate(
    runs: Sequence[SuiteRun],
    *,
    database: str,
    parameters: Parameters,
    max_named_rows: int,
    site: Path | None,
) -> list[list[dict[str, Any]]]:
    """Evaluate suites over a named in-memory DuckDB database and render their pages.

    Args:
        runs: What to evaluate.
        database: Name of the database (see :class:`tasks.quality.dialect.DuckDBDialect`).
        parameters: Values of the suites' ``$PARAMETER`` entries.
        max_named_rows: Rows that each failed expectation may return.
        site: Directory to render into; None: nothing is rendered.

    Returns:
        For each run its expectation results as plain JSON.
    """
    register()
    with _quiet():
        context = gx.get_context(mode="ephemeral", project_config=_project(site))
        source = context.data_sources.add_sql(
            "lake", connection_string=f"{SCHEME}:///{database}", create_temp_table=False
        )
        try:
            results = [
                _evaluate_one(context, source, run, parameters, max_named_rows) for run in runs
            ]
            if site is not None:
                context.build_data_docs()
        finally:
            # Two engines, one for tests of the connection; the database lives while either does.
            source.get_engine().dispose()
            if source.execution_engine is not None:
                source.execution_engine.close()
    return results


def _evaluate_one(
    context: Any, source: Any, run: SuiteRun, parameters: Parameters, max_named_rows: int
) -> list[dict[str, Any]]:
    name = run.suite["name"]
    suite = context.suites.add(gx.ExpectationSuite(**run.suite))
    # The asset bears the suite's name: raw and cleaned tables share theirs.
    asset = source.add_table_asset(name, table_name=run.table)
    definition = gx.ValidationDefinition(
        name=name, data=asset.add_batch_definition_whole_table("whole"), suite=suite
    )
    outcome = context.validation_definitions.add(definition).run(
        expectation_parameters=dict(parameters),
        # COMPLETE is what returns the rows of queries; on SQL every list in it is capped.
        result_format={
            "result_format": "COMPLETE",
            "partial_unexpected_count": max_named_rows,
            "unexpected_index_column_names": list(run.keys),
        },
        run_id=gx.RunIdentifier(run_name="latest"),
    )
    results: list[dict[str, Any]] = outcome.to_json_dict()["results"]
    return results


def _project(site: Path | None) -> DataContextConfig:
    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(),
        progress_bars=ProgressBarsConfig(globally=False),
        analytics_enabled=False,
    )
    config.data_docs_sites = (
        {}
        if site is None
        else {
            "metarec": {
                "class_name": "SiteBuilder",
                "show_how_to_buttons": False,
                "store_backend": {
                    "class_name": "TupleFilesystemStoreBackend",
                    "base_directory": str(site),
                },
                "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            }
        }
    )
    return config


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger(LIBRARY)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
