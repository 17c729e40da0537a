"""Whether the champion's uncertainty still holds: judged, shown, and warned of."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path

import polars as pl
import torch
from prefect import task

from metarec_core.calibration.ask import stated_on_tasks
from metarec_core.calibration.drift import COVERAGE, ECE, CalibrationReport, watch
from metarec_core.calibration.reliability import STATED_SCHEMA, reliability, standing
from metarec_core.episodes.store import load_tasks
from metarec_core.learners.modes import PERSONALISED
from metarec_core.reporting.figures import save_figure
from metarec_core.reporting.reliability import reliability_figure
from metarec_core.serving.bundle import load_bundle
from metarec_core.serving.since import tasks_since
from metarec_core.storage import StageFacts, StageOutput
from metarec_core.training.device import pick_device
from tasks import findings
from tasks.night import Night
from tasks.stage import COMPUTED, stage
from tasks.tracking import ChampionRef, download_bundle

REPORT = "calibration.json"
RELIABILITY = "reliability.parquet"
FIGURE = "reliability.png"

_NAME = "champion"


@task(name="watch-calibration", **COMPUTED)
def watch_calibration(
    night: Night,
    cleaned: StageOutput,
    features: StageOutput,
    episodes: StageOutput,
    ruling: ChampionRef,
) -> StageOutput:
    """Ask the champion about what users did since it was trained, and warn if it errs.

    Where interactions have no times, or none is new, there is nothing to ask.
    """
    config = night.config
    settings = {
        "calibration": config.calibration.model_dump(mode="json"),
        "max_query": config.episodes.max_query,
        "seed": config.seed,
        "champion": ruling.content_hash,
        "figures": figures_of(ruling),
    }
    with stage(night, "calibration", settings) as running:
        output = running.build(
            lambda out, _: _since(night, cleaned, features, episodes, ruling, out),
            inputs=[cleaned, features, episodes],
        )
        if (output.path / FIGURE).exists():
            running.tracked.log_file(output.path / FIGURE, "figures")
        warn(night, output)
    return output


def figures_of(ruling: ChampionRef) -> dict[str, float]:
    """How well the champion's uncertainty held when it was trained, as far as that is known."""
    return {name: ruling.metrics[name] for name in (ECE, COVERAGE) if name in ruling.metrics}


def keep(report: CalibrationReport, stated: pl.DataFrame, learners: list[str], out: Path) -> None:
    """Write a report, bins and figure into the directory of a stage.

    Args:
        report: What was found.
        stated: ``STATED_SCHEMA`` of every learner that was asked.
        learners: Those to draw, the most important last.
        out: Where to.
    """
    (out / REPORT).write_text(report.model_dump_json(indent=2), encoding="utf-8")
    bins = reliability(stated)
    bins.write_parquet(out / RELIABILITY)
    if not bins.is_empty():
        save_figure(reliability_figure(bins, learners), out / FIGURE)


def read_calibration(output: StageOutput) -> CalibrationReport | None:
    """The report of a stage; None if it has none."""
    path = output.path / REPORT
    if not path.exists():
        return None
    return CalibrationReport.model_validate_json(path.read_text(encoding="utf-8"))


def warn(night: Night, output: StageOutput) -> None:
    """Carry what was found into the log and the status."""
    report = read_calibration(output)
    findings.warn(night, [drift.message for drift in report.drifts] if report else [])


def _since(
    night: Night,
    cleaned: StageOutput,
    features: StageOutput,
    episodes: StageOutput,
    ruling: ChampionRef,
    out: Path,
) -> StageFacts:
    config = night.config
    torch.set_num_threads(config.training.threads)
    device = pick_device(config.training.device)
    tasks = load_tasks(episodes.path, features.path)
    with tempfile.TemporaryDirectory() as scratch:
        bundle = load_bundle(download_bundle(night.store, ruling, Path(scratch)), device)
    asked = tasks_since(
        bundle,
        tasks,
        pl.read_parquet(cleaned.path / "users.parquet"),
        max_query=config.episodes.max_query,
        seed=config.seed,
    )
    stated = STATED_SCHEMA.to_frame()
    if asked is not None:
        calibration = bundle.relevance.get(PERSONALISED)
        stated = stated_on_tasks(
            bundle.learner, calibration, asked, tasks.data.scale, device=device, name=_NAME
        )
    found = standing(stated)
    report = watch(
        found,
        figures_of(ruling),
        config.calibration,
        model=f"the champion ({ruling.learner})",
        evidence="interactions since it was trained",
    )
    keep(report, stated, [_NAME], out)
    return StageFacts(
        rows_in=0 if asked is None else len(asked),
        rows_out=len(stated),
        facts={"figures": asdict(found) if found else None, "drifts": len(report.drifts)},
    )
