"""What a judgement found: kept beside what was judged, carried into log and status."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect.logging import get_run_logger

from metarec_core.storage import StageOutput
from tasks.night import Night
from tasks.quality import Options, QualityReport

REPORT = "report.json"


def options(night: Night) -> Options:
    """How the night judges."""
    cleaning = night.config.cleaning
    return Options(
        max_named_rows=night.config.validation.max_named_rows,
        memory_limit=cleaning.memory_limit,
        threads=cleaning.threads,
    )


def keep(report: QualityReport, directory: Path) -> None:
    """Write a report into the directory of its stage."""
    (directory / REPORT).write_text(report.model_dump_json(indent=2), encoding="utf-8")


def read_report(output: StageOutput) -> QualityReport:
    """The report of a stage that judged."""
    return QualityReport.model_validate_json((output.path / REPORT).read_text(encoding="utf-8"))


def say(night: Night, report: QualityReport) -> None:
    """Carry what was found into the log and the status."""
    for failure in (*report.critical, *report.warnings):
        get_run_logger().warning("%s: %s", failure.severity.value, failure.message)
    _record(night, [failure.message for failure in report.warnings])
    docs = night.home.data_docs / "index.html"
    night.record_paths(data_docs=str(docs) if docs.exists() else None)


def warn(night: Night, messages: Sequence[str]) -> None:
    """Carry remarks into the log and the status."""
    for message in messages:
        get_run_logger().warning("%s", message)
    _record(night, messages)


def _record(night: Night, messages: Sequence[str]) -> None:
    night.record(warnings=list(dict.fromkeys([*night.status.warnings, *messages])))
