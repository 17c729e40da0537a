"""Whether the champion's uncertainty holds: shown every night, warned of where it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from metarec_core.calibration.curves import Affine
from metarec_core.calibration.relevance import RelevanceCalibration
from metarec_core.calibration.reliability import RELIABILITY_SCHEMA
from metarec_core.calibration.sizes import KNOTS
from metarec_core.episodes.split import SplitFractions
from metarec_core.serving.bundle import load_bundle
from tasks.calibration import read_calibration, watch_calibration
from tasks.gate import gate, read_verdict
from tasks.summary import summarise_night
from tasks.tracking import ChampionRef, promote, register_challenger

WRONG = Affine(shift=(1.5,) * len(KNOTS), slope=(1.0,) * len(KNOTS))
LATER = 1_700_000_006
"""The seventh purchase of every customer: what follows is new to a model of that time."""


def wrong(workshop: Any) -> dict[str, RelevanceCalibration]:
    """A calibration that promises far too much."""
    made = load_bundle(workshop.trained.path / "bias").relevance["personalised"]
    return {"personalised": made.model_copy(update={"curve": WRONG})}


def enthrone(workshop: Any, directory: Path, metrics: dict[str, float]) -> ChampionRef:
    ref = register_challenger(
        workshop.night.store,
        directory,
        run_id=workshop.night.tracked.run_id,
        learner="bias",
        stage_key="0123abcd",
        run_date=workshop.night.run_date,
        metrics=metrics,
    )
    return promote(workshop.night.store, ref.version, over=None)


def told(workshop: Any) -> list[str]:
    """Warnings of calibration in the status, which are then forgotten."""
    found = [text for text in workshop.night.status.warnings if "calibration" in text]
    workshop.night.record(warnings=[])
    return found


def test_training_leaves_a_calibration_in_every_bundle(workshop: Any) -> None:
    for name, basis in (("popularity", "score"), ("bias", "value")):
        bundle = load_bundle(workshop.trained.path / name)
        made = bundle.relevance["personalised"]
        assert made.basis == basis
        assert made.users > 10
        assert bundle.newest is not None
        assert workshop.trained.facts[name]["relevance_ece"] == made.ece


def test_every_night_shows_how_well_probabilities_hold(workshop: Any) -> None:
    told(workshop)
    ruling = gate.fn(workshop.night, *workshop.data, workshop.trained)
    output = workshop.night.outputs["gate"]
    assert (output.path / "reliability.png").read_bytes().startswith(b"\x89PNG")
    bins = pl.read_parquet(output.path / "reliability.parquet")
    assert bins.schema == RELIABILITY_SCHEMA
    assert set(bins["learner"]) == {"popularity", "bias"}
    metrics = pl.read_parquet(output.path / "metrics.parquet").filter(pl.col("metric") == "ece")
    overall = {row["learner"]: row["value"] for row in metrics.iter_rows(named=True)
               if row["support_size"] == "all"}  # fmt: skip
    for name, error in overall.items():
        whole = bins.filter((pl.col("learner") == name) & (pl.col("segment") == "all"))
        gaps = (whole["stated"] - whole["observed"]).abs() * whole["pairs"]
        assert abs(gaps.sum() / whole["pairs"].sum() - error) < 1e-12
        assert error < 0.1
    assert ruling.metrics["ece"] == overall[ruling.learner]
    report = read_calibration(output)
    assert report is not None
    assert report.model == f"the champion ({ruling.learner})"
    assert report.drifts == ()
    assert told(workshop) == []


def test_a_champion_whose_probabilities_are_off_is_warned_of(workshop: Any, tmp_path: Path) -> None:
    told(workshop)
    directory = workshop.bundle(
        "bias", tmp_path, relevance=wrong(workshop), split=SplitFractions(0.1, 0.3)
    )
    enthrone(workshop, directory, {"ece": 0.01, "coverage_90": 0.9})
    gate.fn(workshop.night, *workshop.data, workshop.trained)
    output = workshop.night.outputs["gate"]
    assert read_verdict(output).verdict == "kept"
    (warning,) = told(workshop)
    for part in (
        "P(relevant) of the champion (bias): found a calibration error of 0.",
        "tonight's test tasks",
        "wanted at most 0.030 beside chance (it was 0.010 when it was trained)",
        "Next step: train again",
    ):
        assert part in warning
    shown = [one for one in summarise_night(workshop.night, None).warnings if "P(rel" in one.table]
    assert [one.expectation for one in shown] == [
        "at most 0.030 beside chance (it was 0.010 when it was trained)"
    ]
    # Found again, and said again.
    gate.fn(workshop.night, *workshop.data, workshop.trained)
    assert workshop.night.outputs["gate"].reused
    assert told(workshop) == [warning]


def watch(workshop: Any, directory: Path, metrics: dict[str, float]) -> Any:
    ruling = enthrone(workshop, directory, metrics)
    told(workshop)
    return watch_calibration.fn(workshop.night, *workshop.data, ruling)


def test_without_training_new_interactions_are_asked(
    workshop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Customers of the shop turn to rarer articles, which the model has not seen them do.
    lenient = {"calibration": {"max_error": 0.2, "max_coverage_gap": 0.2}}
    monkeypatch.setattr(workshop.night, "config", workshop.night.config.changed(lenient))
    directory = workshop.bundle("bias", tmp_path, newest=LATER)
    output = watch(workshop, directory, {})
    report = read_calibration(output)
    assert report is not None
    assert report.figures is not None
    assert report.evidence == "interactions since it was trained"
    assert report.figures["pairs"] == output.rows_out > 1000
    assert report.figures["users"] == output.rows_in == 218
    assert report.drifts == ()
    assert told(workshop) == []
    assert (output.path / "reliability.png").exists()


def test_new_interactions_that_contradict_are_warned_of(workshop: Any, tmp_path: Path) -> None:
    directory = workshop.bundle("bias", tmp_path, newest=LATER, relevance=wrong(workshop))
    output = watch(workshop, directory, {})
    (warning,) = told(workshop)
    assert "(interactions since it was trained)" in warning
    assert "wanted at most 0.050 beside chance" in warning
    again = watch_calibration.fn(
        workshop.night, *workshop.data, enthrone_again(workshop, directory, {"ece": 0.001})
    )
    assert again.key != output.key
    assert "it was 0.001 when it was trained" in told(workshop)[0]


def enthrone_again(workshop: Any, directory: Path, metrics: dict[str, float]) -> ChampionRef:
    """The same files with another record."""
    workshop.dethrone()
    ref = enthrone(workshop, directory, {})
    return ref.model_copy(update={"metrics": metrics})


def test_where_nothing_is_new_nothing_is_said(workshop: Any) -> None:
    output = watch(workshop, workshop.trained.path / "bias", {"ece": 0.0, "coverage_90": 0.9})
    report = read_calibration(output)
    assert report is not None
    assert (report.figures, report.drifts) == (None, ())
    assert told(workshop) == []
    assert not (output.path / "reliability.png").exists()
