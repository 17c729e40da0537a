"""The gate: whether tonight's challenger becomes champion."""

from __future__ import annotations

import math
from collections.abc import Sequence

import polars as pl

from metarec_core.config.tree import GateConfig
from metarec_core.evaluation.compare import (
    JUDGES,
    MIN_USERS,
    NDCG,
    Contestant,
    against_baseline,
    against_champion,
    against_peers,
    is_shown_worse,
    judged_metrics,
)
from metarec_core.evaluation.verdict import Comparison, Outcome, Verdict
from metarec_core.evaluation.wording import describe_peers, describe_rule, explain
from metarec_core.schema import Feedback


def decide(
    challenger: Contestant,
    baselines: Sequence[Contestant],
    champion: Contestant | None,
    *,
    feedback: Feedback,
    config: GateConfig,
    seed: int,
) -> Verdict:
    """Judge a challenger by tonight's test tasks.

    **Baselines.** The burden of proof is the challenger's: over all test tasks its MAE must be
    lower than that of ``bias``, and its NDCG@10 higher than that of ``popularity``, by paired
    intervals that exclude zero; and at no single support size may such an interval lie wholly on
    the wrong side, so that a gain with many interactions cannot pay for a loss with few. With
    few test users the intervals are wide, and with fewer than ``MIN_USERS`` nothing counts as
    shown: the simple method stays, which is the safe mistake.

    **Champion.** Here the burden is reversed: tonight's model has seen tonight's data, so the
    challenger needs only not to be *shown* worse, in NDCG@10 and in MAE: the interval must
    not lie wholly beyond ``config.champion_tolerance`` (relative to the champion's value) on
    the wrong side. A champion can thus drift down by steps too small to see, never below
    the baselines. Where a champion stands, only two can follow it: the challenger that passes
    both rules, or, if the champion is itself a baseline and the challenger fails, tonight's
    edition of that baseline, unless it is shown worse by this rule; so that what is new can be
    listed. In every other case the champion is kept.

    **Special cases.** Baselines that were not trained, or are the challenger itself, are not
    compared. With implicit feedback there is no error to judge: only NDCG@10 counts. With
    explicit feedback a challenger that predicts no value fails the comparison in MAE; a champion
    that predicts none (a baseline) is compared in NDCG@10 alone. With no champion yet the
    challenger becomes champion if it beats the baselines, otherwise whichever learner has the
    best NDCG@10, the challenger among them unless a baseline is shown to be better over all
    tasks: proof is asked of who would replace something, and there is nothing to replace.
    Where neither judge was trained, the best NDCG@10 decides alone. A champion that works no more
    with this code or catalogue
    gives way to a challenger that beats the baselines; to one that does not it stays, and
    somebody has to look. A challenger with the champion's content hash leaves everything as it is.

    **Peers.** The challenger is also compared with every other learner of tonight, its members
    among them if it is an average, and the verdict says whom it is shown to beat. That decides
    nothing: of two learners that cannot be told apart either may serve.

    The level of single comparisons is not corrected for their number: more demands can only keep
    a challenger back, never let a worse one through.

    Args:
        challenger: The learner that wants to become champion.
        baselines: Every other learner of tonight, in order.
        champion: The current one, evaluated on the same tasks, those of users it was trained on
            left out; None if there is none yet.
        feedback: What values mean.
        config: Level, resamples, tolerance.
        seed: Seed of the resamples.
    """
    comparisons = _against_baselines(challenger, baselines, feedback, config, seed)
    if champion is not None and champion.tasks is not None:
        comparisons += against_champion(
            challenger, champion, feedback=feedback, config=config, seed=seed
        )
    peers = against_peers(challenger, baselines, feedback=feedback, config=config, seed=seed)
    outcome: Outcome = "promoted"
    if champion is not None and challenger.is_same_model(champion):
        winner, outcome = champion, "unchanged"
    elif comparisons and all(comparison.passed for comparison in comparisons):
        winner = challenger
    elif champion is None:
        # Baselines first: of equals the simpler one.
        winner = _best([*baselines, *([challenger] if _is_eligible(comparisons) else [])])
    else:
        edition = _tonights_edition(champion, baselines)
        refreshing = (
            against_champion(edition, champion, feedback=feedback, config=config, seed=seed)
            if edition
            else []
        )
        comparisons += refreshing
        if edition and all(comparison.passed for comparison in refreshing):
            winner = edition
        else:
            winner, outcome = champion, "kept"
    return Verdict(
        verdict=outcome,
        promoted=outcome == "promoted",
        winner=winner.name,
        reason=explain(challenger, winner, champion, comparisons, config=config),
        rule=describe_rule(config, feedback),
        comparisons=tuple(comparisons),
        peers=tuple(peers),
        remark=describe_peers(challenger.name, peers),
    )


def _against_baselines(
    challenger: Contestant,
    baselines: Sequence[Contestant],
    feedback: Feedback,
    config: GateConfig,
    seed: int,
) -> list[Comparison]:
    by_name = {baseline.name: baseline for baseline in baselines}
    return [
        comparison
        for metric, name in JUDGES
        if metric in judged_metrics(feedback) and name in by_name and name != challenger.name
        for comparison in against_baseline(
            challenger, by_name[name], metric, config=config, seed=seed
        )
    ]


def _is_eligible(comparisons: Sequence[Comparison]) -> bool:
    """Whether enough users judged, and showed no baseline to be better over all tasks."""
    return all(
        comparison.n_users >= MIN_USERS and not is_shown_worse(comparison)
        for comparison in comparisons
        if comparison.support_size is None
    )


def _tonights_edition(champion: Contestant, baselines: Sequence[Contestant]) -> Contestant | None:
    """The baseline of the champion's name, if the champion could be judged and is not the same."""
    if champion.tasks is None:
        return None
    return next(
        (one for one in baselines if one.name == champion.name and not one.is_same_model(champion)),
        None,
    )


def _best(contestants: Sequence[Contestant]) -> Contestant:
    """The one with the best mean NDCG@10 over users; the first of equals."""

    def value(contestant: Contestant) -> float:
        users = contestant.frame.group_by("user").agg(pl.col(NDCG).mean()).sort("user")
        mean = users[NDCG].mean()
        return mean if isinstance(mean, float) else -math.inf

    return max(contestants, key=value)
