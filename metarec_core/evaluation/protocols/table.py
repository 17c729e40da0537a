"""From figures of tasks to flat rows: value, standard error, and the difference to a baseline."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from metarec_core.calibration.reliability import chance_error
from metarec_core.evaluation.bootstrap import bootstrap_intervals
from metarec_core.evaluation.evaluate import PAIRS
from metarec_core.evaluation.metrics import calibration_error, catalogue_coverage
from metarec_core.evaluation.protocols.run import Results, Timing
from metarec_core.evaluation.protocols.study import State
from metarec_core.learners.modes import unlabelled
from metarec_core.schema import SEGMENT_BANDS, Columns

CHALLENGERS = frozenset({"gaussian", "amortised", "content", "maml", "average"})
"""Learners of our own; all others are baselines."""

LOWER_IS_BETTER = frozenset({"mae", "rmse", "nll", "ece"})
WITHOUT_WINNER = frozenset({"coverage_50", "coverage_90"})
"""Nearest to its level is best, so that no difference says who is better."""

Row = dict[str, Any]
Floats = npt.NDArray[np.float64]


def rows(results: Results, *, seed: int, resamples: int, confidence: float) -> list[Row]:
    """Flat rows of all figures.

    A user's figures are averaged over tasks, shuffles and seeds first; ``value`` is the mean over
    users and ``se`` its standard error over users. ``best_baseline`` is the strongest baseline *on
    the test tasks of this very run* (harsher than the strongest on validation), and ``diff_low``
    and ``diff_high`` the ends of the paired bootstrap interval of learner minus baseline over the
    users that both were asked about. Bands of support sizes are states of their own, such as
    ``user_cold:10-19``.

    Args:
        results: What the studies gave.
        seed: Seed of the resamples.
        resamples: How many.
        confidence: Level of the intervals.

    Returns:
        Rows with ``learner, state, k, metric, value, se, best_baseline, diff_low, diff_high``;
        null where a field does not apply.
    """
    found: list[Row] = []
    for state, k, frame in frames_of(results):
        contest = _Contest(state, state.name, k, seed, resamples, confidence)
        found += contest.rows(frame)
        if state.by_band:
            for _, band in SEGMENT_BANDS:
                inside = frame.filter(pl.col(Columns.SEGMENT) == band)
                if len(inside):
                    label = f"{state.name}:{band}"
                    found += _Contest(state, label, k, seed, resamples, confidence).rows(inside)
    return found + [row for timing in _costs(results.timings) for row in timing]


def frames_of(results: Results) -> Iterator[tuple[State, int | None, pl.DataFrame]]:
    """Figures of all learners that got through every study, by state and support size."""
    incomplete = {failure.learner for failure in results.failures}
    for name, state in results.states.items():
        frames = [f for f in results.frames if len(f) and f["state"][0] == name]
        for k in state.tasks:
            part = [f for f in frames if f["k"][0] == k]
            part = [f for f in part if f["learner"][0] not in incomplete]
            if part:
                yield state, k, pl.concat(part)


def user_table(frame: pl.DataFrame, measure: str) -> tuple[list[str], Floats]:
    """Learners with a figure for every user, and those figures, ``[U, L]`` by ascending user.

    A user's figure is the mean over tasks, shuffles and seeds. A learner without one for every user
    is not compared: its mean is of other users.
    """
    users = (
        frame.filter(pl.col(measure).is_not_null())
        .group_by("learner", "user", maintain_order=True)
        .agg(pl.col(measure).mean().alias("value"))
    )
    if users.is_empty():
        return [], np.zeros((0, 0))
    wide = users.pivot("learner", index="user", values="value").sort("user")
    names = [name for name in wide.columns if name != "user"]
    whole = [name for name in names if wide[name].null_count() == 0]
    return whole, wide.select(whole).to_numpy().astype(np.float64)


@dataclass(frozen=True, slots=True)
class _Contest:
    """All learners on the same tasks."""

    state: State
    label: str
    k: int | None
    seed: int
    resamples: int
    confidence: float

    def rows(self, frame: pl.DataFrame) -> list[Row]:
        found: list[Row] = []
        for measure in self.state.measures:
            found += self._measured(frame, measure)
        if self.state.threshold is not None:
            found += self._calibration(frame)
        if "ndcg_at_10" in self.state.measures:
            found += self._shown(frame)
        return found

    def _measured(self, frame: pl.DataFrame, measure: str) -> list[Row]:
        whole, table = user_table(frame, measure)
        if not whole:
            return []
        metric = "rmse" if measure == "mse" else measure.removeprefix("graded_")
        means = table.mean(axis=0)
        spread = _standard_errors(table)
        if measure == "mse":
            roots = np.sqrt(means)
            spread, means = spread / (2.0 * np.maximum(roots, 1e-12)), roots
        best = _best_baseline(whole, means, metric)
        lows, highs = self._differences(table, means, best, measure)
        return [
            self._row(
                name,
                metric,
                float(means[place]),
                _finite(spread[place]),
                None if best is None or place == best else whole[best],
                _finite(lows[place]),
                _finite(highs[place]),
            )
            for place, name in enumerate(whole)
        ]

    def _differences(
        self, table: Floats, means: Floats, best: int | None, measure: str
    ) -> tuple[Floats, Floats]:
        if best is None:
            nothing = np.full(table.shape[1], np.nan)
            return nothing, nothing
        differences = table - table[:, [best]]
        ends = bootstrap_intervals(
            differences,
            generator=np.random.default_rng(self.seed),
            resamples=self.resamples,
            confidence=self.confidence,
        )
        if measure == "mse":
            # a - b = (a^2 - b^2) / (a + b), the sum of roots held fixed.
            ends = ends / np.maximum(means + means[best], 1e-12)
        ends[:, best] = np.nan
        return ends[0], ends[1]

    def _calibration(self, frame: pl.DataFrame) -> list[Row]:
        found = []
        for (name,), part in frame.group_by("learner", maintain_order=True):
            errors: dict[str, list[float]] = {}
            for _, study in part.group_by("study", maintain_order=True):
                pairs = study.select("user", *PAIRS).explode(*PAIRS)
                came, users = pairs["relevant"].to_numpy(), pairs["user"].to_numpy()
                stated, raw = (pairs[one].to_numpy() for one in ("probability", "uncalibrated"))
                if not np.isnan(stated).any():
                    errors.setdefault("ece", []).append(calibration_error(stated, came))
                    by_chance = chance_error(stated, came, users)
                    errors.setdefault("ece_by_chance", []).append(by_chance)
                if not np.isnan(raw).any():
                    errors.setdefault("ece_uncalibrated", []).append(calibration_error(raw, came))
            found += [self._row(str(name), one, float(np.mean(of))) for one, of in errors.items()]
        return found

    def _shown(self, frame: pl.DataFrame) -> list[Row]:
        shown = (
            frame.group_by("learner", "study", maintain_order=True)
            .agg(catalogue_coverage(pl.col("top_10"), pl.col("catalogue_size")).alias("share"))
            .group_by("learner", maintain_order=True)
            .agg(pl.col("share").mean())
        )
        return [
            self._row(name, "catalogue_coverage_at_10", share) for name, share in shown.iter_rows()
        ]

    def _row(
        self,
        learner: str,
        metric: str,
        value: float,
        se: float | None = None,
        best: str | None = None,
        low: float | None = None,
        high: float | None = None,
    ) -> Row:
        return _row(learner, self.label, self.k, metric, value, se, best, low, high)


def _row(
    learner: str,
    state: str | None,
    k: int | None,
    metric: str,
    value: float,
    se: float | None = None,
    best: str | None = None,
    low: float | None = None,
    high: float | None = None,
) -> Row:
    return {
        "learner": learner,
        "state": state,
        "k": k,
        "metric": metric,
        "value": value,
        "se": se,
        "best_baseline": best,
        "diff_low": low,
        "diff_high": high,
    }


def _best_baseline(names: Sequence[str], means: Floats, metric: str) -> int | None:
    places = [place for place, name in enumerate(names) if unlabelled(name) not in CHALLENGERS]
    if not places or metric in WITHOUT_WINNER:
        return None
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    return max(places, key=lambda place: sign * float(means[place]))


def _standard_errors(table: Floats) -> Floats:
    if len(table) < 2:
        return np.full(table.shape[1], np.nan)
    errors: Floats = table.std(axis=0, ddof=1) / math.sqrt(len(table))
    return errors


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _costs(timings: Sequence[Timing]) -> Iterator[list[Row]]:
    by_learner: dict[str, list[Timing]] = {}
    for timing in timings:
        by_learner.setdefault(timing.learner, []).append(timing)
    for name, spent in by_learner.items():
        n = len(spent)
        figures: Mapping[str, float] = {
            "fit_seconds": sum(one.fit_seconds for one in spent) / n,
            "adapt_seconds": sum(one.adapt_seconds for one in spent) / n,
            "tasks_per_second": sum(one.tasks_per_second for one in spent) / n,
        }
        yield [_row(name, None, None, metric, value) for metric, value in figures.items()]
