"""Comparisons that the gate asks for: which, against whom, and whether they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from metarec_core.config.tree import GateConfig
from metarec_core.evaluation.bootstrap import PairedDifference, paired_difference
from metarec_core.evaluation.verdict import Comparison, Demand
from metarec_core.schema import Columns, Feedback

NDCG = "ndcg_at_10"
MAE = "mae"
JUDGES = ((MAE, "bias"), (NDCG, "popularity"))
"""Each metric of the gate, and the baseline that a challenger must beat in it."""

MIN_USERS = 10
"""Fewest users that can prove anything. Bootstrap intervals of fewer are too narrow: at a level of
95 % one in five of two users, one in eight of three and one in sixteen of four excludes a true
difference of zero on one side, where one in forty should."""

METRIC_TITLES = {NDCG: "NDCG@10", MAE: "MAE"}
_LOWER_IS_BETTER = frozenset({MAE})


@dataclass(frozen=True, slots=True)
class Contestant:
    """A learner before the gate.

    Attributes:
        name: Its name in the registry.
        tasks: Its figures a task (see ``evaluate``); None for a champion that was read whole but
            does not work with this code or on this catalogue.
        content_hash: Hash of its bundle's bytes; two contestants with the same hash are the same
            model. Empty: unknown, equal to none.
        obstacle: Why ``tasks`` is None, as part of a sentence.
    """

    name: str
    tasks: pl.DataFrame | None
    content_hash: str = ""
    obstacle: str = ""

    @property
    def frame(self) -> pl.DataFrame:
        """``tasks`` of a contestant that was evaluated."""
        assert self.tasks is not None, f"{self.name} was not evaluated"
        return self.tasks

    def has(self, metric: str) -> bool:
        """Whether any task has a figure for ``metric``."""
        return self.frame[metric].count() > 0

    def is_same_model(self, other: Contestant) -> bool:
        """Whether both are the same model, to the byte."""
        return bool(self.content_hash) and self.content_hash == other.content_hash


def judged_metrics(feedback: Feedback) -> tuple[str, ...]:
    """Metrics that the gate reads: implicit feedback has no rating to be wrong about."""
    return (NDCG,) if feedback is Feedback.IMPLICIT else (MAE, NDCG)


def against_baseline(
    challenger: Contestant, baseline: Contestant, metric: str, *, config: GateConfig, seed: int
) -> list[Comparison]:
    """Better over all tasks, and not worse at any single support size.

    With fewer than :data:`MIN_USERS` users in common nothing is proven: the first comparison
    fails, and a support size with as few is left out.
    """
    pooled = _compare(
        challenger,
        baseline,
        baseline.name,
        metric,
        demand=Demand.BETTER,
        support_size=None,
        tolerance=0.0,
        config=config,
        seed=seed,
    )
    sizes = challenger.frame[Columns.SUPPORT_SIZE].unique().sort().to_list()
    by_size = (
        _compare(
            challenger,
            baseline,
            baseline.name,
            metric,
            demand=Demand.NOT_WORSE,
            support_size=size,
            tolerance=0.0,
            config=config,
            seed=seed,
        )
        for size in sizes
    )
    return [pooled, *filter(_is_evidence, by_size)]


def against_peers(
    challenger: Contestant,
    others: Sequence[Contestant],
    *,
    feedback: Feedback,
    config: GateConfig,
    seed: int,
) -> list[Comparison]:
    """Better over all tasks than each other learner of tonight, in each metric that both have.

    An average must be told from its members; nothing is decided by it.
    """
    return [
        _compare(
            challenger,
            other,
            other.name,
            metric,
            demand=Demand.BETTER,
            support_size=None,
            tolerance=0.0,
            config=config,
            seed=seed,
        )
        for metric in judged_metrics(feedback)
        for other in others
        if challenger.has(metric) and other.has(metric) and other.name != challenger.name
    ]


def against_champion(
    challenger: Contestant,
    champion: Contestant,
    *,
    feedback: Feedback,
    config: GateConfig,
    seed: int,
) -> list[Comparison]:
    """Not worse over all tasks in any metric, within ``config.champion_tolerance``.

    A metric that the champion lacks (a forecast), or in which fewer than :data:`MIN_USERS` users
    can be compared, cannot show a loss and is left out.
    """
    comparisons = (
        _compare(
            challenger,
            champion,
            "champion",
            metric,
            demand=Demand.NOT_WORSE,
            support_size=None,
            tolerance=config.champion_tolerance,
            config=config,
            seed=seed,
        )
        for metric in judged_metrics(feedback)
        if champion.has(metric)
    )
    return [
        comparison
        for comparison in comparisons
        if _is_evidence(comparison) or not challenger.has(comparison.metric)
    ]


def is_shown_worse(comparison: Comparison) -> bool:
    """Whether the interval lies wholly on the wrong side of zero, or there is nothing to judge."""
    if comparison.low is None or comparison.high is None:
        return True
    if comparison.metric in _LOWER_IS_BETTER:
        return comparison.low > 0.0
    return comparison.high < 0.0


def _is_evidence(comparison: Comparison) -> bool:
    return comparison.n_users >= MIN_USERS


def _compare(
    challenger: Contestant,
    opponent: Contestant,
    opponent_label: str,
    metric: str,
    *,
    demand: Demand,
    support_size: int | None,
    tolerance: float,
    config: GateConfig,
    seed: int,
) -> Comparison:
    # A fresh generator each time: one comparison more or less changes no other's interval.
    result = paired_difference(
        challenger.frame,
        opponent.frame,
        metric,
        generator=np.random.default_rng(seed),
        resamples=config.resamples,
        confidence=config.confidence,
        support_size=support_size,
    )
    return Comparison(
        metric=metric,
        support_size=support_size,
        demand=demand,
        challenger=challenger.name,
        opponent=opponent_label,
        challenger_value=result.left,
        opponent_value=result.right,
        difference=result.difference,
        low=result.low,
        high=result.high,
        n_users=result.n_users,
        passed=_holds(result, metric, demand, tolerance),
    )


def _holds(result: PairedDifference, metric: str, demand: Demand, tolerance: float) -> bool:
    if result.low is None or result.high is None or result.right is None:
        return False
    if result.n_users < MIN_USERS:
        return False
    if metric in _LOWER_IS_BETTER:
        worst_gain, best_gain = -result.high, -result.low
    else:
        worst_gain, best_gain = result.low, result.high
    if demand is Demand.BETTER:
        return worst_gain > 0.0
    return best_gain >= -tolerance * abs(result.right)
