"""The front page of Data Docs: each suite's verdict, and each failure with its rows."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from tasks.quality.report import Failure, Severity

if TYPE_CHECKING:
    from tasks.quality.site import SuitePage

ORDER = ("raw", "clean", "recommendations")
"""Order in which a night judges, by the first word of a suite's name."""

PAGE = """<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="UTF-8">
    <meta name="viewport" content="width=device-width, initial-scale=1.0">
    <title>metarec: data quality</title>
    <style>
{style}</style>
  </head>
  <body>
    <main>
      <h1>Data quality</h1>
      <p>The latest verdict on every table that was judged. Critical failures stop a run before
      anything is trained or published; warnings are carried into its summary.</p>
      <table>
        <thead><tr><th>Suite</th><th>Verdict</th><th class="n">Rows</th><th class="n">Checks</th>
        <th class="n">Critical</th><th class="n">Warnings</th><th class="n">Left out</th>
        <th>Judged at</th></tr></thead>
        <tbody>
{suites}
        </tbody>
      </table>
{failures}
    </main>
  </body>
</html>
"""


def render_index(pages: Sequence[SuitePage], style: str) -> str:
    """The front page as HTML; texts from data are escaped."""
    ordered = sorted(pages, key=_order)
    return PAGE.format(
        style=style,
        suites="\n".join(_suite_row(page) for page in ordered),
        failures="\n".join(_suite_failures(page) for page in ordered if page.failures),
    )


def _order(page: SuitePage) -> tuple[int, str]:
    word = page.suite.split("_")[0]
    return (ORDER.index(word) if word in ORDER else len(ORDER), page.suite)


def _suite_row(page: SuitePage) -> str:
    critical = sum(one.severity is Severity.CRITICAL for one in page.failures)
    warnings = len(page.failures) - critical
    verdict, kind = (
        ("failed", "critical") if critical else ("warnings", "warning") if warnings else _PASSED
    )
    judged = page.judged_at.strftime("%Y-%m-%d %H:%M:%S UTC") if page.judged_at else ""
    numbers = (page.rows, page.evaluated, critical, warnings, page.left_out)
    return (
        f'<tr><td><a href="{escape(page.details or "#")}">{escape(page.suite)}</a></td>'
        f'<td><span class="verdict {kind}">{verdict}</span></td>'
        + "".join(f'<td class="n">{number:,}</td>' for number in numbers)
        + f"<td>{judged}</td></tr>"
    )


_PASSED = ("passed", "passed")


def _suite_failures(page: SuitePage) -> str:
    ordered = sorted(page.failures, key=lambda one: one.severity)
    return f"<h2>{escape(page.suite)}</h2>\n" + "\n".join(_failure(one) for one in ordered)


def _failure(failure: Failure) -> str:
    name = f"{failure.column}: {failure.expectation}" if failure.column else failure.expectation
    return (
        f'<section class="failure"><h3><span class="verdict {failure.severity}">'
        f"{failure.severity}</span> {escape(name)}</h3>\n"
        f"<dl><dt>Wanted</dt><dd>{escape(failure.wanted)}</dd>"
        f"<dt>Found</dt><dd>{escape(failure.found)}</dd>"
        f"<dt>Next step</dt><dd>{escape(failure.next_step)}</dd></dl>\n"
        f"{_rows(failure)}</section>"
    )


def _rows(failure: Failure) -> str:
    if not failure.rows:
        return ""
    names = list(failure.rows[0])
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(str(row.get(name)))}</td>" for name in names) + "</tr>"
        for row in failure.rows
    )
    shown = len(failure.rows)
    total = failure.unexpected_count or shown
    return (
        f"<details{' open' if shown <= 5 else ''}><summary>{shown:,} of {total:,} rows</summary>"
        f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></details>"
    )
