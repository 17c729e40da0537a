"""The gate's rule and its verdict in plain sentences."""

from __future__ import annotations

from collections.abc import Sequence

from metarec_core.config.tree import GateConfig
from metarec_core.evaluation.compare import (
    JUDGES,
    MAE,
    METRIC_TITLES,
    MIN_USERS,
    Contestant,
    judged_metrics,
)
from metarec_core.evaluation.verdict import Comparison, Demand
from metarec_core.schema import Feedback


def describe_rule(config: GateConfig, feedback: Feedback) -> str:
    """The rule of the gate in one paragraph, with the settings in force."""
    metrics = judged_metrics(feedback)
    beaten = " and ".join(
        f"a {'lower' if metric == MAE else 'higher'} {METRIC_TITLES[metric]} than {baseline}"
        for metric, baseline in JUDGES
        if metric in metrics
    )
    names = " and in ".join(METRIC_TITLES[metric] for metric in metrics)
    loss = (
        f"beyond a relative loss of {config.champion_tolerance:.1%}"
        if config.champion_tolerance > 0
        else "on the wrong side"
    )
    return (
        f"On the test tasks the challenger must have {beaten}: the paired "
        f"{config.confidence:.0%} bootstrap interval over users excludes zero for all support "
        "sizes together, and lies wholly on the wrong side at none of them. Against the "
        f"champion, on the same tasks, the interval in {names} must not lie wholly {loss}. "
        f"Fewer than {MIN_USERS} users prove nothing. A challenger that fails leaves the place to "
        "the champion, or, if that is a baseline, to tonight's edition of it unless the same "
        "comparison shows it worse; with no champion, the best NDCG@10 decides among the "
        "baselines and a challenger that no baseline is shown to beat."
    )


def explain(
    challenger: Contestant,
    winner: Contestant,
    champion: Contestant | None,
    comparisons: Sequence[Comparison],
    *,
    config: GateConfig,
) -> str:
    """Why ``winner`` is champion from now on, in a sentence with the figures that decided."""
    if champion is not None and challenger.is_same_model(champion):
        return f"{challenger.name} is the champion itself, to the byte; nothing changes."
    remark = _remark(winner, champion, comparisons)
    unjudged = "no baseline that the gate asks for was trained"
    if champion is None and not comparisons:
        return (
            f"{winner.name} becomes champion: {unjudged}, "
            f"and no learner of tonight has a better NDCG@10.{remark}"
        )
    if winner is challenger and any(not comparison.passed for comparison in comparisons):
        return (
            f"{challenger.name} becomes the first champion: it has the best NDCG@10 of tonight's "
            f"learners and no baseline is shown to be better. Not proven: "
            f"{_shortfalls(challenger, comparisons, config)}.{remark}"
        )
    if winner is challenger:
        proof = "; ".join(_figures(c, config) for c in comparisons if c.support_size is None)
        return f"{challenger.name} becomes champion: {proof}.{remark}"
    proof = _shortfalls(challenger, comparisons, config) or unjudged
    if winner is champion:
        outcome = f"the champion ({winner.name}) stays"
    elif champion is not None:
        outcome = f"tonight's edition of the champion ({winner.name}) takes its place"
    else:
        outcome = f"{winner.name}, the baseline with the best NDCG@10, becomes champion"
    return f"{challenger.name} is not promoted: {proof}; {outcome}.{remark}"


def describe_peers(challenger: str, peers: Sequence[Comparison]) -> str:
    """Which of tonight's other learners the challenger is shown to beat, metric by metric.

    Args:
        challenger: Its name.
        peers: Its comparisons with the others.
    """
    sentences = []
    for metric in dict.fromkeys(comparison.metric for comparison in peers):
        all_of_it = [comparison for comparison in peers if comparison.metric == metric]
        beaten = [comparison.opponent for comparison in all_of_it if comparison.passed]
        open_ = [_difference(comparison) for comparison in all_of_it if not comparison.passed]
        shown = f"shown to beat {', '.join(beaten)}" if beaten else "shown to beat none"
        if beaten and not open_:
            shown = f"shown to beat each other learner ({', '.join(beaten)})"
        rest = f", not {', '.join(open_)}" if open_ else ""
        sentences.append(f"In {METRIC_TITLES[metric]} {challenger} is {shown}{rest}.")
    return " ".join(sentences)


def _difference(comparison: Comparison) -> str:
    if comparison.difference is None:
        return comparison.opponent
    if comparison.low is None or comparison.high is None:
        return f"{comparison.opponent} ({comparison.difference:+.4f})"
    interval = f"{comparison.low:+.4f} to {comparison.high:+.4f}"
    return f"{comparison.opponent} ({comparison.difference:+.4f}, {interval})"


def _shortfalls(
    challenger: Contestant, comparisons: Sequence[Comparison], config: GateConfig
) -> str:
    failed = [c for c in comparisons if not c.passed and c.challenger == challenger.name]
    # The overall comparison says most; single sizes are named when it holds.
    overall = [c for c in failed if c.support_size is None]
    return "; ".join(_figures(c, config) for c in overall or failed)


def _remark(
    winner: Contestant, champion: Contestant | None, comparisons: Sequence[Comparison]
) -> str:
    """What was not compared with the champion, and why."""
    if champion is None:
        return ""
    if champion.tasks is None:
        cause = champion.obstacle or "it does not fit tonight's data"
        way_out = (
            " It stays until a challenger beats the baselines, or the alias 'champion' is deleted."
            if winner is champion
            else ""
        )
        return f" The champion ({champion.name}) could not be evaluated: {cause}.{way_out}"
    if not any(comparison.opponent == "champion" for comparison in comparisons):
        return f" With the champion fewer than {MIN_USERS} users could be compared."
    return ""


def _figures(comparison: Comparison, config: GateConfig) -> str:
    title = METRIC_TITLES[comparison.metric]
    where = "" if comparison.support_size is None else f" at support size {comparison.support_size}"
    if comparison.difference is None:
        return (
            f"{title}{where} cannot be compared with {comparison.opponent}'s "
            f"(no user has a figure from both)"
        )
    users = "1 user" if comparison.n_users == 1 else f"{comparison.n_users} users"
    interval = (
        "no interval"
        if comparison.low is None or comparison.high is None
        else f"{config.confidence:.0%} interval {comparison.low:+.4f} to {comparison.high:+.4f}"
    )
    wanted = "" if comparison.passed else f", wanted {_wanted(comparison, config)}"
    if comparison.n_users < MIN_USERS:
        wanted = f", wanted at least {MIN_USERS}"
    return (
        f"{title}{where} {comparison.challenger_value:.4f} against {comparison.opponent}'s "
        f"{comparison.opponent_value:.4f} (difference {comparison.difference:+.4f}, {interval}, "
        f"{users}{wanted})"
    )


def _wanted(comparison: Comparison, config: GateConfig) -> str:
    if comparison.demand is Demand.BETTER:
        return "it wholly below 0" if comparison.metric == MAE else "it wholly above 0"
    if comparison.opponent == "champion" and config.champion_tolerance > 0:
        return f"it not wholly beyond a loss of {config.champion_tolerance:.1%}"
    return "it not wholly above 0" if comparison.metric == MAE else "it not wholly below 0"
