"""Judge tables with Great Expectations; critical failures stop the run, warnings are carried on."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from prefect import task

from metarec_core.ingest.descriptor import DatasetDescriptor
from metarec_core.storage import StageFacts, StageOutput
from tasks.findings import keep, options, read_report, say
from tasks.ingest import read_descriptor
from tasks.night import Night
from tasks.quality import QualityReport, fingerprint, validate_tables
from tasks.stage import COMPUTED, stage


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
            keep(report, out)
            say(night, report)
            report.raise_if_critical()
            return StageFacts(
                rows_in=sum(report.rows.values()),
                rows_out=sum(report.rows.values()),
                facts={"evaluated": report.evaluated, "warnings": len(report.warnings)},
            )

        output = running.build(build, inputs=[tables], fingerprint=fingerprint())
        if output.reused:
            say(night, read_report(output))
        return output


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
        options=options(night),
    )
