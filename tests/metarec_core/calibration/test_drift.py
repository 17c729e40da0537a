"""A warning where uncertainty holds no more, and none where chance explains what is found."""

from __future__ import annotations

from dataclasses import replace

import pydantic
import pytest

from metarec_core.calibration.drift import CalibrationReport, watch
from metarec_core.calibration.reliability import Standing
from metarec_core.calibration.settings import CalibrationConfig

CONFIG = CalibrationConfig()
WELL = Standing(ece=0.03, chance=0.015, coverage=0.91, coverage_se=0.01, pairs=20_000, users=90)
THEN = {"ece": 0.02, "coverage_90": 0.905, "ndcg_at_10": 0.4}


def report(now: Standing | None, then: dict[str, float] | None = None) -> CalibrationReport:
    return watch(now, THEN if then is None else then, CONFIG, model="m", evidence="test tasks")


@pytest.mark.parametrize(
    "now",
    [
        WELL,
        None,
        replace(WELL, ece=0.054),
        replace(WELL, ece=0.5, coverage=0.1, pairs=CONFIG.min_pairs - 1),
        replace(WELL, ece=0.5, coverage=0.1, users=CONFIG.min_users - 1),
        replace(WELL, ece=0.10, chance=0.07),
        replace(WELL, coverage=0.86, coverage_se=0.01),
        replace(WELL, coverage=None, coverage_se=None),
    ],
)
def test_what_holds_or_cannot_be_known_is_no_drift(now: Standing | None) -> None:
    assert report(now).drifts == ()


def test_an_error_that_grew_is_told_with_figures_and_a_next_step() -> None:
    (drift,) = report(replace(WELL, ece=0.081)).drifts
    assert drift.subject == "P(relevant) of m"
    assert "a calibration error of 0.081 on 20,000 pairs of 90 users (test tasks)" in drift.found
    assert "chance explains 0.015" in drift.found
    assert drift.wanted == "at most 0.040 beside chance (it was 0.020 when it was trained)"
    assert "metarec run" in drift.next_step
    assert drift.message.startswith("P(relevant) of m: found a calibration error of 0.081")


def test_without_a_record_the_bound_alone_counts() -> None:
    grown = replace(WELL, ece=0.06)
    assert report(grown).drifts
    assert not report(grown, {}).drifts
    (drift,) = report(replace(WELL, ece=0.07), {}).drifts
    assert drift.wanted == "at most 0.050 beside chance"


@pytest.mark.parametrize("coverage", [0.84, 0.96])
def test_intervals_that_are_too_narrow_or_too_wide(coverage: float) -> None:
    (drift,) = report(replace(WELL, coverage=coverage, coverage_se=0.004)).drifts
    assert drift.subject == "90% intervals of m"
    assert f"{coverage:.1%} (standard error 0.4%)" in drift.found
    assert "87.5% to 92.5% (it was 0.905 when it was trained)" in drift.wanted
    assert "calibration.max_coverage_gap" in drift.next_step


def test_a_model_that_was_bad_already_must_still_be_within_the_bound() -> None:
    drifts = report(replace(WELL, ece=0.09, coverage=0.80), {"ece": 0.2, "coverage_90": 0.7}).drifts
    assert [drift.subject for drift in drifts] == ["P(relevant) of m", "90% intervals of m"]


def test_a_report_is_plain_json() -> None:
    made = report(replace(WELL, ece=0.081))
    assert CalibrationReport.model_validate_json(made.model_dump_json()) == made
    assert made.figures is not None
    assert made.figures["pairs"] == 20_000


@pytest.mark.parametrize(
    "values", [{"max_error": 0.0}, {"tolerance": 0.6}, {"min_pairs": 5}, {"min_users": 1}]
)
def test_settings_have_bounds(values: dict[str, float]) -> None:
    with pytest.raises(pydantic.ValidationError):
        CalibrationConfig(**values)
