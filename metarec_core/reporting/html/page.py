"""The page: head, sections, and one copy of the library that draws the charts."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from metarec_core.reporting.html.charts import Panel, in_script
from metarec_core.reporting.html.explanations import explanations_section
from metarec_core.reporting.html.frontier import frontier_section
from metarec_core.reporting.html.head import failure_section, head, warnings_section
from metarec_core.reporting.html.lists import flags_section, metrics_section, spread_section
from metarec_core.reporting.html.record import NightReport
from metarec_core.reporting.html.reliability import reliability_section
from metarec_core.reporting.html.theme import chart_config, style

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "img-src data:; base-uri 'none'; form-action 'none'"
)
"""What a browser may do with the page: run what is in it, and ask nobody for anything."""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<main>
{head}
{nav}
{sections}
{footer}
</main>
{scripts}
</body>
</html>
"""

_DRAW = """
(() => {{
  const charts = {charts};
  const schemes = {{light: {light}, dark: {dark}}};
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const draw = () => {{
    const scheme = dark.matches ? "dark" : "light";
    for (const [key, spec] of Object.entries(charts)) {{
      vegaEmbed("#" + key, spec, {{
        mode: "vega-lite", renderer: "svg", actions: false,
        config: schemes[scheme], tooltip: {{theme: scheme}},
      }}).catch(console.error);
    }}
  }};
  draw();
  dark.addEventListener("change", draw);
}})();
"""


def render_report(report: NightReport) -> str:
    """The report as one self-contained HTML page.

    It needs no network and no other file, follows the reader's light or dark scheme, and has a
    section for whatever there is a frame of. Text from data, paths and errors is escaped. The same
    record gives the same bytes, with the same versions of the chart libraries.
    """
    night = report.night
    built = [
        ("failure", "What went wrong", _plain(failure_section(night))),
        ("warnings", "Warnings", _plain(warnings_section(night))),
        (
            "frontier",
            "Accuracy and diversity",
            frontier_section(report.frontier, report.chosen)
            if report.frontier is not None
            else None,
        ),
        (
            "lists",
            "The lists of the night",
            metrics_section(report.list_metrics) if report.list_metrics is not None else None,
        ),
        (
            "reliability",
            "Reliability of P(relevant)",
            reliability_section(report.reliability, report.learner)
            if report.reliability is not None
            else None,
        ),
        (
            "explanations",
            "Reasons",
            explanations_section(report.explanations, report.explanation_curves),
        ),
        (
            "spread",
            "Scores and uncertainty",
            spread_section(report.lists) if report.lists is not None else None,
        ),
        (
            "flags",
            "Short lists and rules",
            flags_section(report.lists) if report.lists is not None else None,
        ),
    ]
    shown = [(key, title, *section) for key, title, section in built if section is not None]
    charts = [panel for *_, panels in shown for panel in panels]
    title = f"metarec: night of {night.run_date.isoformat()}, {night.dataset}"
    return _PAGE.format(
        policy=_POLICY,
        title=escape(title),
        style=style(),
        head=head(report),
        nav=_nav([(key, title) for key, title, *_ in shown]),
        sections="\n".join(
            f'<section id="{key}"><h2>{escape(title)}</h2>\n{body}</section>'
            for key, title, body, _ in shown
        ),
        footer=_footer(night.versions),
        scripts=_scripts(charts),
    )


def _plain(body: str | None) -> tuple[str, list[Panel]] | None:
    return None if body is None else (body, [])


def _nav(entries: list[tuple[str, str]]) -> str:
    links = "".join(f'<a href="#{key}">{escape(title)}</a>' for key, title in entries)
    return f"<nav>{links}</nav>" if len(entries) > 1 else ""


def _footer(versions: Mapping[str, str]) -> str:
    if not versions:
        return ""
    named = ", ".join(f"{escape(name)} {escape(text)}" for name, text in sorted(versions.items()))
    return f"<footer>{named}</footer>"


def _scripts(charts: list[Panel]) -> str:
    """The library, once, and all charts; nothing at all where there is none."""
    if not charts:
        return ""
    # Thirty megabytes of renderer are loaded for a page that has something to draw.
    import vl_convert

    draw = _DRAW.format(
        charts=in_script({panel.key: panel.spec for panel in charts}),
        light=in_script(chart_config(dark=False)),
        dark=in_script(chart_config(dark=True)),
    )
    library = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub lacks the default
    missing = "<noscript>The charts of this page need JavaScript.</noscript>"
    return f"{missing}\n<script>{library}</script>\n<script>{draw}</script>"
