"""The summary of a night in Markdown: for the Prefect artifact and the run's directory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from metarec_core.evaluation.summarise import METRICS
from metarec_core.evaluation.verdict import Comparison, Demand
from metarec_core.reporting.markdown import block, cell, code, escape, link, table
from metarec_core.reporting.night import MetricFigure, NightSummary
from metarec_core.reporting.titles import metric_title

_MISSING = "–"
_LINKS = {
    "prefect_run": "Prefect run",
    "mlflow_run": "MLflow run",
    "lists": "Lists",
    "data_docs": "Data Docs",
    "report": "Report with charts",
    "summary": "This summary",
}


def render_summary(night: NightSummary) -> str:
    """The night as Markdown, what matters most first.

    A failed night opens with the stage, the error and the next step, and says what became of
    champion and lists. Text from data, paths and errors is escaped. The same record gives the
    same text.
    """
    sections: tuple[Callable[[NightSummary], list[str]], ...] = (
        _failure,
        _verdict,
        _warnings,
        _metrics,
        _stages,
        _changes,
        _links,
        _versions,
    )
    parts = [_head(night)]
    for section in sections:
        parts.extend(section(night))
    return "\n\n".join(parts) + "\n"


def _head(night: NightSummary) -> str:
    facts = [f"dataset **{escape(night.dataset)}**"]
    if night.champion_version is not None:
        facts.append(f"champion version **{escape(night.champion_version)}**")
    spent = [stage.seconds for stage in night.stages if stage.seconds is not None]
    if spent:
        facts.append(f"{_seconds(sum(spent))} of work")
    if night.overhead_seconds is not None:
        facts.append(f"{_seconds(night.overhead_seconds)} of overhead")
    return f"# Night of {night.run_date.isoformat()}: {night.state}\n\n{', '.join(facts)}"


def _failure(night: NightSummary) -> list[str]:
    if night.state == "completed":
        return []
    parts = ["## What went wrong"]
    if night.failure is not None:
        failure = night.failure
        parts.append(f"Stage **{escape(failure.stage)}** failed with {code(failure.kind)}:")
        parts.append(block(failure.text or "(the error has no text)"))
        parts.append(
            f"**Next step:** {escape(failure.next_step)}"
            if failure.next_step
            else "**Next step:** read the log of this stage; then run again: finished stages are "
            "reused."
        )
    parts.append(_aftermath(night))
    return parts


def _aftermath(night: NightSummary) -> str:
    if not night.champion_moved and not night.lists_published:
        return "**The champion and the published lists are unchanged.**"
    champion = (
        "The champion had already changed" if night.champion_moved else "The champion is unchanged"
    )
    lists = (
        "new lists had already been published"
        if night.lists_published
        else "the published lists are unchanged"
    )
    return f"**{champion}; {lists}.**"


def _verdict(night: NightSummary) -> list[str]:
    verdict = night.verdict
    if verdict is None:
        return []
    parts = [
        f"## Gate: {verdict.verdict}",
        f"Champion: **{escape(verdict.winner)}**. {escape(verdict.reason)}",
        f"Rule: {escape(verdict.rule)}",
    ]
    if verdict.comparisons:
        parts.append(_comparisons(verdict.comparisons))
    if verdict.peers:
        parts += [f"Beside the rule: {escape(verdict.remark)}", _comparisons(verdict.peers)]
    return parts


def _comparisons(comparisons: Sequence[Comparison]) -> str:
    header = ("metric", "against", "demand", "holds", "support size")
    figures = ("challenger", "opponent", "difference", "interval", "users")
    return table(
        (*header, *figures),
        (_comparison(comparison) for comparison in comparisons),
        numbers_from=len(header),
    )


def _comparison(comparison: Comparison) -> list[str]:
    interval = (
        _MISSING
        if comparison.low is None or comparison.high is None
        else f"{comparison.low:+.4f} to {comparison.high:+.4f}"
    )
    demand = "better" if comparison.demand is Demand.BETTER else "not worse"
    return [
        cell(metric_title(comparison.metric)),
        cell(comparison.opponent),
        demand,
        "yes" if comparison.passed else "**no**",
        "all" if comparison.support_size is None else str(comparison.support_size),
        _number(comparison.challenger_value),
        _number(comparison.opponent_value),
        _MISSING if comparison.difference is None else f"{comparison.difference:+.4f}",
        interval,
        f"{comparison.n_users:,}",
    ]


def _warnings(night: NightSummary) -> list[str]:
    if not night.warnings:
        return []
    return [
        "## Warnings",
        table(
            ("table", "expected", "found"),
            (
                (cell(item.table), cell(item.expectation), cell(item.found))
                for item in night.warnings
            ),
        ),
    ]


def _metrics(night: NightSummary) -> list[str]:
    if not night.metrics:
        return []
    named = [*METRICS, *(figure.metric for figure in night.metrics)]
    tables = [
        table_of_metric
        for metric in dict.fromkeys(named)
        for table_of_metric in _metric([f for f in night.metrics if f.metric == metric])
    ]
    return [
        "## Test tasks",
        "Columns are support sizes; figures are means over users ± standard error.",
        *tables,
    ]


def _metric(figures: list[MetricFigure]) -> list[str]:
    """A table of one metric, learners as rows; none if no learner has it."""
    cells = {
        (figure.learner, figure.support_size): _with_error(figure)
        for figure in figures
        if figure.value is not None
    }
    if not cells:
        return []
    sizes = list(dict.fromkeys(figure.support_size for figure in figures))
    learners = list(dict.fromkeys(learner for learner, _ in cells))
    rows = (
        [cell(learner), *(cells.get((learner, size), _MISSING) for size in sizes)]
        for learner in learners
    )
    return [
        f"**{escape(metric_title(figures[0].metric))}**",
        table(("learner", *(cell(size) for size in sizes)), rows, numbers_from=1),
    ]


def _with_error(figure: MetricFigure) -> str:
    error = "" if figure.se is None else f" ± {figure.se:.3f}"
    return f"{figure.value:.3f}{error}"


def _stages(night: NightSummary) -> list[str]:
    if not night.stages:
        return []
    rows = (
        (
            cell(stage.name),
            "**failed**" if stage.state == "failed" else stage.state,
            "yes" if stage.reused else "no",
            _MISSING if stage.seconds is None else _seconds(stage.seconds),
            _count(stage.rows_in),
            _count(stage.rows_out),
        )
        for stage in night.stages
    )
    header = ("stage", "state", "reused", "time", "rows in", "rows out")
    return ["## Stages", table(header, rows, numbers_from=3)]


def _changes(night: NightSummary) -> list[str]:
    if not night.changes:
        return []
    rows = (
        (cell(item.table), cell(item.reason), cell(item.action), f"{item.rows:,}")
        for item in night.changes
    )
    return [
        "## Rows dropped and changed",
        table(("table", "reason", "action", "rows"), rows, numbers_from=3),
    ]


def _links(night: NightSummary) -> list[str]:
    targets = night.links.model_dump()
    entries = [
        link(title, targets[name]) for name, title in _LINKS.items() if targets[name] is not None
    ]
    return ["## Links", _bullets(entries)] if entries else []


def _versions(night: NightSummary) -> list[str]:
    if not night.versions:
        return []
    entries = [
        f"{escape(name)} {code(version)}" for name, version in sorted(night.versions.items())
    ]
    return ["## Versions", _bullets(entries)]


def _bullets(entries: Iterable[str]) -> str:
    return "\n".join(f"- {entry}" for entry in entries)


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _number(value: float | None) -> str:
    return _MISSING if value is None else f"{value:.4f}"


def _count(value: int | None) -> str:
    return _MISSING if value is None else f"{value:,}"
