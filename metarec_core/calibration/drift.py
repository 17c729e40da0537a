"""Whether stated uncertainty still holds: against bounds, and against when it was learned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict

from metarec_core.calibration.reliability import LEVEL, Standing
from metarec_core.calibration.settings import CalibrationConfig

ECE, COVERAGE = "ece", "coverage_90"
"""Names of the two figures among the metrics that a model is registered with."""


class Drift(BaseModel):
    """Stated uncertainty that does not hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str
    found: str
    wanted: str
    next_step: str

    @property
    def message(self) -> str:
        """All of it in a line."""
        return (
            f"{self.subject}: found {self.found}; wanted {self.wanted}. Next step: {self.next_step}"
        )


class CalibrationReport(BaseModel):
    """What a night found of the champion's calibration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    """Whose, in words."""
    evidence: str
    """What it was asked about, in words."""
    figures: dict[str, Any] | None
    """Fields of :class:`~metarec_core.calibration.reliability.Standing`; null: nothing to ask."""
    drifts: tuple[Drift, ...] = ()


def watch(
    now: Standing | None,
    then: Mapping[str, float],
    config: CalibrationConfig,
    *,
    model: str,
    evidence: str,
) -> CalibrationReport:
    """Judge a champion's calibration.

    A figure has drifted if it is out of its bound, or worse than when the champion was trained by
    more than the tolerance. What chance explains is taken off first (of the coverage two standard
    errors), so that a night with few users does not warn of noise.

    Args:
        now: How well its uncertainty holds; None: nobody could be asked.
        then: Metrics that it was registered with; a figure that is missing is not compared.
        config: Bounds and tolerance.
        model: The champion, in words.
        evidence: What it was asked about, in words.
    """
    found: tuple[Drift, ...] = ()
    if now is not None and now.pairs >= config.min_pairs and now.users >= config.min_users:
        found = (
            *_error(now, then.get(ECE), config, model, evidence),
            *_coverage(now, then.get(COVERAGE), config, model, evidence),
        )
    figures = None if now is None else asdict(now)
    return CalibrationReport(model=model, evidence=evidence, figures=figures, drifts=found)


def _error(
    now: Standing, then: float | None, config: CalibrationConfig, model: str, evidence: str
) -> Iterator[Drift]:
    bound = config.max_error
    if then is not None:
        bound = min(bound, then + config.tolerance)
    if max(now.ece - now.chance, 0.0) <= bound:
        return
    yield Drift(
        subject=f"P(relevant) of {model}",
        found=f"a calibration error of {now.ece:.3f} on {now.pairs:,} pairs of {now.users:,} users "
        f"({evidence}), of which chance explains {now.chance:.3f}",
        wanted=f"at most {bound:.3f} beside chance{_when(then)}",
        next_step=_next_step("calibration.max_error"),
    )


def _coverage(
    now: Standing, then: float | None, config: CalibrationConfig, model: str, evidence: str
) -> Iterator[Drift]:
    if now.coverage is None or now.coverage_se is None:
        return
    bound = config.max_coverage_gap
    if then is not None:
        bound = min(bound, abs(then - LEVEL) + config.tolerance)
    if abs(now.coverage - LEVEL) - 2.0 * now.coverage_se <= bound:
        return
    yield Drift(
        subject=f"{LEVEL:.0%} intervals of {model}",
        found=f"{now.coverage:.1%} (standard error {now.coverage_se:.1%}) of the values of "
        f"{now.users:,} users inside ({evidence})",
        wanted=f"{LEVEL - bound:.1%} to {min(LEVEL + bound, 1.0):.1%}{_when(then)}",
        next_step=_next_step("calibration.max_coverage_gap"),
    )


def _when(then: float | None) -> str:
    return "" if then is None else f" (it was {then:.3f} when it was trained)"


def _next_step(setting: str) -> str:
    return (
        "train again ('metarec run'), which calibrates anew; if it stays so, look at "
        f"reliability.png and at what changed in the data, or widen {setting}"
    )
