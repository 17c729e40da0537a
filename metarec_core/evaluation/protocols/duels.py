"""Each learner of our own against each baseline: paired differences and their intervals."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from metarec_core.evaluation.bootstrap import bootstrap_intervals
from metarec_core.evaluation.protocols.run import Results
from metarec_core.evaluation.protocols.table import (
    CHALLENGERS,
    WITHOUT_WINNER,
    Row,
    frames_of,
    user_table,
)
from metarec_core.learners.modes import unlabelled


def duels(results: Results, *, seed: int, resamples: int, confidence: float) -> list[Row]:
    """Paired differences of our learners to every baseline, the best one or not.

    A learner may be shown to beat the baselines that one asks about while the interval against the
    best of all others says nothing. Users, their means and their resamples are those of
    :func:`~metarec_core.evaluation.protocols.table.rows`; squared errors have no duel, and modes of
    a learner and bands of support sizes neither.

    Args:
        results: What the studies gave.
        seed: Seed of the resamples.
        resamples: How many.
        confidence: Level of the intervals.

    Returns:
        Rows with ``learner, baseline, state, k, metric, difference, low, high``; the last two null
        with fewer than two users.
    """
    return [
        row
        for state, k, frame in frames_of(results)
        for measure in state.measures
        if measure != "mse" and measure not in WITHOUT_WINNER
        for row in _duels(frame, measure, state.name, k, seed, resamples, confidence)
    ]


def _duels(
    frame: pl.DataFrame,
    measure: str,
    state: str,
    k: int | None,
    seed: int,
    resamples: int,
    confidence: float,
) -> Iterator[Row]:
    names, table = user_table(frame, measure)
    pairs = [
        (ours, theirs)
        for ours, learner in enumerate(names)
        for theirs, baseline in enumerate(names)
        if learner in CHALLENGERS and unlabelled(baseline) not in CHALLENGERS
    ]
    if not pairs:
        return
    left, right = (list(places) for places in zip(*pairs, strict=True))
    differences = table[:, left] - table[:, right]
    lows, highs = bootstrap_intervals(
        differences,
        generator=np.random.default_rng(seed),
        resamples=resamples,
        confidence=confidence,
    )
    for place, (ours, theirs) in enumerate(pairs):
        known = bool(np.isfinite(lows[place]))
        yield {
            "learner": names[ours],
            "baseline": names[theirs],
            "state": state,
            "k": k,
            "metric": measure.removeprefix("graded_"),
            "difference": float(differences[:, place].mean()),
            "low": float(lows[place]) if known else None,
            "high": float(highs[place]) if known else None,
        }
