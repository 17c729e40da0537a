"""The night in Markdown: in its directory, in MLflow and as a Prefect artifact."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import httpx
import polars as pl
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.exceptions import PrefectException
from prefect.logging import get_run_logger

from metarec_core.errors import MetarecError
from metarec_core.reporting.night import (
    Failure,
    Links,
    MetricFigure,
    NightSummary,
    RowsByReason,
    StageRecord,
    Warned,
)
from metarec_core.reporting.summary import render_summary
from metarec_core.storage import code_version
from tasks.calibration import read_calibration
from tasks.clean import ACCOUNTING
from tasks.contest import METRICS
from tasks.findings import REPORT, read_report
from tasks.gate import read_verdict
from tasks.night import Night

_LOST = (
    MetarecError,
    OSError,
    PrefectException,
    httpx.HTTPError,
    ValueError,
    pl.exceptions.PolarsError,
)
"""What may come in the way of telling: files, servers, figures of another shape."""

_VERSIONED = ("prefect", "mlflow", "great_expectations", "duckdb", "polars", "torch")


@contextmanager
def reported(night: Night) -> Iterator[None]:
    """Write the summary when the block ends, well or not."""
    try:
        yield
    except Exception as error:
        _report(night, error)
        raise
    _report(night, None)


def _report(night: Night, error: Exception | None) -> None:
    """Tell everybody who may ask; a channel that fails neither fails the night nor hides why."""
    summary = summarise_night(night, error)
    path = Path(night.status.paths.summary or night.home.runs / night.run_id / "summary.md")
    with _best_effort("write the report"):
        summary = _write_report(night, summary, path.with_name("report.html"))
    text = render_summary(summary)
    with _best_effort("write the summary"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        get_run_logger().info("summary: %s", path)
    with _best_effort("log the summary to MLflow"):
        night.tracked.log_text("summary.md", text)
        night.tracked.describe(text)
    with _best_effort("make Prefect's artifacts"):
        create_markdown_artifact(text, key="summary", description=f"Night of {night.run_date}")
        if night.tracked.url:
            create_link_artifact(night.tracked.url, link_text="MLflow run", key="mlflow-run")
            if night.status.paths.report:
                page = f"{night.tracked.url}/artifacts/report.html"
                create_link_artifact(page, link_text="Report with charts", key="report")


def _write_report(night: Night, summary: NightSummary, path: Path) -> NightSummary:
    """Write the page and log it to MLflow; return the summary that links to it."""
    # A second of imports, for one page at the end of a night.
    from metarec_core.reporting.html import render_report
    from tasks.report import gather

    page = render_report(gather(night, summary))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    night.record_paths(report=str(path))
    get_run_logger().info("report: %s", path)
    with _best_effort("log the report to MLflow"):
        night.tracked.log_file(path)
    links = summary.links.model_copy(update={"report": str(path)})
    return summary.model_copy(update={"links": links})


@contextmanager
def _best_effort(action: str) -> Iterator[None]:
    try:
        yield
    except _LOST as error:
        get_run_logger().warning("could not %s: %s", action, error)


def summarise_night(night: Night, error: Exception | None) -> NightSummary:
    """What the night did, read from its status and from the outputs of its stages."""
    status, outputs = night.status, night.outputs
    judged = outputs.get("gate")
    verdict = read_verdict(judged) if judged else None
    failed = next((stage.name for stage in status.stages if stage.state == "failed"), "start")
    return NightSummary(
        run_date=night.run_date,
        state="failed" if error else "completed",
        dataset=status.dataset,
        stages=tuple(
            StageRecord(
                name=stage.name,
                state="failed" if stage.state == "failed" else "completed",
                seconds=stage.seconds,
                reused=stage.reused,
                rows_in=stage.rows_in,
                rows_out=stage.rows_out,
            )
            for stage in status.stages
        ),
        changes=_changes(night),
        warnings=_warnings(night),
        verdict=verdict,
        metrics=_metrics(night),
        champion_version=status.champion.version if status.champion else None,
        champion_moved=bool(verdict and verdict.promoted and status.champion),
        lists_published=status.paths.lists is not None,
        overhead_seconds=status.overhead_seconds,
        failure=Failure.from_error(failed, error) if error else None,
        links=Links(
            prefect_run=status.paths.prefect,
            mlflow_run=status.paths.mlflow,
            lists=status.paths.lists,
            data_docs=status.paths.data_docs,
            summary=status.paths.summary,
        ),
        versions={
            "metarec": code_version(),
            "python": platform.python_version(),
            **{name: version(name) for name in _VERSIONED},
        },
    )


def _changes(night: Night) -> tuple[RowsByReason, ...]:
    cleaned = night.outputs.get("clean")
    if cleaned is None:
        return ()
    rows = pl.read_parquet(cleaned.path / ACCOUNTING).filter(pl.col("rows") > 0)
    return tuple(
        RowsByReason(**row)
        for row in rows.select("table", "reason", "action", "rows").iter_rows(named=True)
    )


def _warnings(night: Night) -> tuple[Warned, ...]:
    reports = [
        read_report(output) for output in night.outputs.values() if (output.path / REPORT).exists()
    ]
    return tuple(
        Warned(table=warning.suite, expectation=warning.wanted, found=warning.message)
        for report in reports
        for warning in report.warnings
    ) + tuple(
        Warned(
            table=drift.subject,
            expectation=drift.wanted,
            found=f"{drift.found}. Next step: {drift.next_step}",
        )
        for report in map(read_calibration, night.outputs.values())
        if report is not None
        for drift in report.drifts
    )


def _metrics(night: Night) -> tuple[MetricFigure, ...]:
    judged = night.outputs.get("gate")
    if judged is None:
        return ()
    return MetricFigure.from_frame(pl.read_parquet(judged.path / METRICS))
