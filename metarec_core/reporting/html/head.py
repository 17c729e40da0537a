"""The head of the page: which run it is, how it ended, what is in service, where to read on."""

from __future__ import annotations

from html import escape

from metarec_core.reporting.html.markup import link, table, text
from metarec_core.reporting.html.record import NightReport
from metarec_core.reporting.night import NightSummary

_LINKS = {
    "prefect_run": "Prefect run",
    "mlflow_run": "MLflow run",
    "lists": "Lists",
    "data_docs": "Data Docs",
    "summary": "Summary",
}


def head(report: NightReport) -> str:
    """Date, state, a few figures, the verdict and links."""
    night = report.night
    tiles = [("dataset", text(night.dataset))]
    if night.champion_version is not None:
        tiles.append(("champion version", text(night.champion_version)))
    if report.lists is not None:
        tiles.append(("users with a list", f"{report.lists.users:,}"))
        tiles.append(("entries", f"{report.lists.entries:,}"))
    spent = [stage.seconds for stage in night.stages if stage.seconds is not None]
    if spent:
        tiles.append(("of work", _duration(sum(spent))))
    figures = "".join(
        f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for name, value in tiles
    )
    badge = f'<span class="badge {night.state}">{night.state}</span>'
    parts = [
        f"<h1>Night of {night.run_date.isoformat()}{badge}</h1>",
        f'<div class="tiles">{figures}</div>',
    ]
    verdict = night.verdict
    if verdict is not None:
        parts.append(
            f"<p><b>Gate: {escape(str(verdict.verdict))}.</b> Champion: {text(verdict.winner)}. "
            f"{text(verdict.reason)}</p>"
        )
    targets = night.links.model_dump()
    links = [
        f"<li>{link(title, targets[name])}</li>"
        for name, title in _LINKS.items()
        if targets[name] is not None
    ]
    if links:
        parts.append(f"<ul>{''.join(links)}</ul>")
    return "\n".join(parts)


def failure_section(night: NightSummary) -> str | None:
    """What stopped the night, and the way out; None for one that ended well."""
    failure = night.failure
    if failure is None:
        return None
    step = failure.next_step or "read the log of this stage; then run again."
    return (
        f"<p>Stage <b>{text(failure.stage)}</b> failed with <code>{escape(failure.kind)}</code>:"
        f"</p><pre>{text(failure.text)}</pre><p><b>Next step:</b> {text(step)}</p>"
    )


def warnings_section(night: NightSummary) -> str | None:
    """Expectations that did not hold and stopped nothing; None without any."""
    if not night.warnings:
        return None
    rows = [[text(one.table), text(one.expectation), text(one.found)] for one in night.warnings]
    return table(("table", "expected", "found"), rows)


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
