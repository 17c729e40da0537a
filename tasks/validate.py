"""Judge tables with Great Expectations; critical failures stop the run, warnings are carried on."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from prefect import task
from prefect.logging import get_run_logger

import tasks.quality
from metarec_core.ingest.descriptor import DatasetDescriptor
from metarec_core.storage import StageFacts, StageOutput, hash_file, hash_json
from tasks.ingest import read_descriptor
from tasks.night import Night
from tasks.quality import (
    Options,
    QualityReport,
    validate_recommendations,
    validate_tables,
)
from tasks.quality.suites import EXPECTATIONS
from tasks.stage import COMPUTED, stage

REPORT = "report.json"


@task(name="validate", **COMPUTED)
def validate(
    night: Night, raw: StageOutput, tables: StageOutput, kind: Literal["raw", "clean"]
) -> StageOutput:
    """Judge raw or cleaned tables.

    Raises:
        ValidationError: If a critical expectation does not hold.
    """
    name = f"validate_{kind}"
    descriptor = read_descriptor(raw)
    max_age = descriptor.freshness.max_age_days if night.config.validation.freshness else None
    settings = {
        "max_named_rows": night.config.validation.max_named_rows,
        "tolerated_fraction": night.config.validation.max_unparsable_fraction,
        "scale": asdict(descriptor.scale()),
        "max_age_days": max_age,
        # The same data is as good tomorrow, unless its age is judged.
        "as_of": None if max_age is None else str(night.run_date),
    }
    with stage(night, name, settings) as running:

        def build(out: Path, _: Path) -> StageFacts:
            report = _judge(night, descriptor, tables.path, kind, max_age)
            (out / REPORT).write_text(report.model_dump_json(indent=2), encoding="utf-8")
            _say(night, report)
            report.raise_if_critical()
            return StageFacts(
                rows_in=sum(report.rows.values()),
                rows_out=sum(report.rows.values()),
                facts={"evaluated": report.evaluated, "warnings": len(report.warnings)},
            )

        output = running.build(build, inputs=[tables], fingerprint=_fingerprint())
        if output.reused:
            _say(night, read_report(output))
        return output


def check_lists(night: Night, lists: Path, cleaned: StageOutput, catalogue: Path) -> None:
    """Judge lists before anybody can read them.

    Raises:
        ValidationError: If a critical expectation does not hold.
    """
    report = validate_recommendations(
        lists,
        home=night.home,
        clean=cleaned.path,
        catalogue=catalogue,
        k=night.config.recommend.k,
        run_date=night.run_date,
        options=_options(night),
    )
    _say(night, report)
    report.raise_if_critical()


def read_report(output: StageOutput) -> QualityReport:
    """The report that a validate stage wrote."""
    return QualityReport.model_validate_json((output.path / REPORT).read_text(encoding="utf-8"))


def _judge(
    night: Night,
    descriptor: DatasetDescriptor,
    tables: Path,
    kind: Literal["raw", "clean"],
    max_age_days: float | None,
) -> QualityReport:
    midnight = datetime.combine(night.run_date, datetime.min.time(), UTC)
    return validate_tables(
        tables,
        kind,
        home=night.home,
        scale=descriptor.scale(),
        as_of=(midnight + timedelta(days=1)).timestamp(),
        max_age_days=max_age_days,
        tolerated_fraction=night.config.validation.max_unparsable_fraction,
        options=_options(night),
    )


def _options(night: Night) -> Options:
    cleaning = night.config.cleaning
    return Options(
        max_named_rows=night.config.validation.max_named_rows,
        memory_limit=cleaning.memory_limit,
        threads=cleaning.threads,
    )


def _say(night: Night, report: QualityReport) -> None:
    """Carry what was found into the log and the status."""
    for failure in (*report.critical, *report.warnings):
        get_run_logger().warning("%s: %s", failure.severity.value, failure.message)
    found = [failure.message for failure in report.warnings]
    night.record(warnings=list(dict.fromkeys([*night.status.warnings, *found])))
    docs = night.home.data_docs / "index.html"
    night.record_paths(data_docs=str(docs) if docs.exists() else None)


def _fingerprint() -> str:
    """Hash of the suites and of the code that judges by them, neither of which is in the core."""
    judges = Path(tasks.quality.__file__).parent
    return hash_json(
        [hash_file(path) for path in sorted((*judges.glob("*.py"), *EXPECTATIONS.glob("*.json")))]
    )
