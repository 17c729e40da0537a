"""A benchmark in lines: our figures beside those of others, and who beats the best baseline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from metarec_core.reporting.markdown import block, escape
from metarec_core.reporting.titles import metric_title

LOWER = frozenset({"mae", "rmse", "nll", "ece", "ece_uncalibrated"})
LEVELS = {"coverage_50": 0.5, "coverage_90": 0.9}
"""Metrics with a level to be at."""
_NIGHTLY = "average"
"""The learner whose differences to each baseline are told; those of others are in the document."""
_COLUMNS = 8
"""A table with more is cut into one a state."""
_COSTS = ("fit_seconds", "adapt_seconds", "tasks_per_second")

Place = tuple[str, int | None]
Row = Mapping[str, Any]


def benchmark_lines(document: Mapping[str, Any], headline: Sequence[str]) -> list[str]:
    """The document as a table for a terminal.

    ``+`` marks a figure whose paired interval against the best baseline of the run lies wholly on
    the better side, ``-`` one that lies wholly on the worse side.

    Args:
        document: What ``document`` made.
        headline: Metrics to show, in order.
    """
    lines = [f"{document['protocol'].upper()}: {document['title']}"]
    for metric in headline:
        lines += ["", *metric_lines(document, metric)]
    lines += ["", *cost_lines(document["rows"])]
    for failure in document["failures"]:
        lines.append(f"left out: {failure['learner']} ({failure['study']}): {failure['message']}")
    return lines


def metric_lines(document: Mapping[str, Any], metric: str) -> list[str]:
    """One metric: known figures, then each learner, a column for each state and support size."""
    rows = [row for row in document["rows"] if row["metric"] == metric and is_whole(row)]
    if not rows:
        return []
    known = [one for one in document["known"] if one["metric"] == metric]
    places = places_of(rows)
    body: list[list[str]] = []
    for method in dict.fromkeys(one["method"] for one in known):
        own = {(one["state"], one["k"]): one for one in known if one["method"] == method}
        source = "published" if any(one["published"] for one in own.values()) else "known"
        if set(own) & set(places):
            cells = [_number(own[place]["value"]) if place in own else "" for place in places]
            body.append([f"{method} ({source})", *cells])
    for learner in dict.fromkeys(row["learner"] for row in rows):
        own_rows = {(row["state"], row["k"]): row for row in rows if row["learner"] == learner}
        cells = [_figure(own_rows[place]) if place in own_rows else "" for place in places]
        body.append([learner, *cells])
    lines = [f"{metric_title(metric)} ({better(metric)})"]
    lines += _tables(places, body)
    lines += _differences(rows, places, document["challengers"])
    duels = [row for row in document["duels"] if row["metric"] == metric]
    return lines + _duel_lines([row for row in duels if row["learner"] == _NIGHTLY], places)


def _duel_lines(duels: Sequence[Row], places: Sequence[Place]) -> list[str]:
    """The interval of one learner's difference to each baseline, a column for each place."""
    body = []
    for baseline in dict.fromkeys(row["baseline"] for row in duels):
        own = {(row["state"], row["k"]): row for row in duels if row["baseline"] == baseline}
        body.append([f"minus {baseline}", *(_interval(own.get(place)) for place in places)])
    if not body:
        return []
    return ["", f"{duels[0]['learner']} minus each baseline, interval", *_tables(places, body)]


def benchmark_report(
    document: Mapping[str, Any], headline: Sequence[str], figures: Sequence[str]
) -> str:
    """The benchmark in Markdown, with its figures beside it.

    Args:
        document: What ``document`` made.
        headline: Metrics to show, in order.
        figures: Names of the image files beside the report.
    """
    heading = f"# {document['protocol'].upper()}: {escape(document['title'])}"
    states = dict.fromkeys(row["state"] for row in document["rows"] if is_whole(row))
    metric = headline[0]
    leads = [
        f"- {escape(state)}: {standing(document, state, metric)}"
        for state in states
        if any(row["state"] == state and row["metric"] == metric for row in document["rows"])
    ]
    seeds = ", ".join(map(str, document["seeds"]))
    parts = [
        heading,
        (
            f"Our learners against the best baseline of the same run, {metric_title(metric)}, "
            f"seeds {seeds} (*ahead* or *behind*: the paired interval is clear of zero):"
        ),
        "\n".join(leads),
        *(f"![{name}]({name})" for name in figures),
        block("\n".join(benchmark_lines(document, headline))),
        (
            "`benchmark.json` holds every row, the settings, versions, and hashes of data and "
            f"users; `{document['users']['file']}` the users themselves."
        ),
    ]
    return "\n\n".join(parts) + "\n"


def better(metric: str) -> str:
    """Which way a metric is good, in words."""
    if metric in LEVELS:
        return f"nearest to {LEVELS[metric]:.0%} is best"
    return "lower is better" if metric in LOWER else "higher is better"


def is_whole(row: Row) -> bool:
    """Whether a row is about a whole state, not about a band of support sizes or about costs."""
    return row["state"] is not None and ":" not in row["state"]


def places_of(rows: Iterable[Row]) -> list[Place]:
    """Every (state, k) of the rows, in their order."""
    return list(dict.fromkeys((row["state"], row["k"]) for row in rows))


def verdict(row: Row) -> str:
    """``+`` better than the best baseline beyond doubt, ``-`` worse, else nothing."""
    return _mark(row["metric"], row["diff_low"], row["diff_high"])


def _mark(metric: str, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return ""
    better, worse = (high < 0, low > 0) if metric in LOWER else (low > 0, high < 0)
    return "+" if better else "-" if worse else ""


def standing(document: Mapping[str, Any], state: str, metric: str) -> str:
    """Who leads a state, in a line: the best learner of our own against the best baseline.

    At each support size (or over all, where sizes are not set) that learner is the one with the
    best figure; it is *ahead* if its interval is clear of zero on the right side.
    """
    rows = [row for row in document["rows"] if row["state"] == state and row["metric"] == metric]
    ours = [row for row in rows if row["learner"] in document["challengers"]]
    if not ours:
        pick = min if metric in LOWER else max
        best = pick(rows, key=lambda row: row["value"])
        return f"best baseline: {best['learner']} {_number(best['value'])}"
    sign = -1.0 if metric in LOWER else 1.0
    places: dict[str, list[str]] = {"ahead": [], "level": [], "behind": []}
    for place in places_of(ours):
        here = [row for row in ours if (row["state"], row["k"]) == place]
        best = max(here, key=lambda row: sign * row["value"])
        outcome = {"+": "ahead", "": "level", "-": "behind"}[verdict(best)]
        size = "" if place[1] is None else f"k={place[1]} "
        places[outcome].append(f"{size}({best['learner']})" if size else best["learner"])
    return "; ".join(f"{name}: {_grouped(found)}" for name, found in places.items() if found)


def _grouped(found: Sequence[str]) -> str:
    """``k=1, 2 (average)`` for ``k=1 (average)`` and ``k=2 (average)``."""
    sizes: dict[str, list[str]] = {}
    for text in found:
        size, _, name = text.rpartition(" (")
        sizes.setdefault(name.rstrip(")"), []).append(size.removeprefix("k="))
    return ", ".join(
        f"{name} k={','.join(own)}" if any(own) else name for name, own in sizes.items()
    )


def cost_lines(rows: Iterable[Row]) -> list[str]:
    """Wall time of each learner, a study."""
    costs: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["metric"] in _COSTS:
            costs.setdefault(row["learner"], {})[row["metric"]] = row["value"]
    body = [
        [name, f"{cost[_COSTS[0]]:.1f}", f"{cost[_COSTS[1]]:.1f}", f"{cost[_COSTS[2]]:,.0f}"]
        for name, cost in costs.items()
    ]
    return _aligned([["wall time", "fit s", "test s", "tasks/s"], *body])


def _differences(
    rows: Sequence[Row], places: Sequence[Place], challengers: Sequence[str]
) -> Iterator[str]:
    for learner in challengers:
        own = {(row["state"], row["k"]): row for row in rows if row["learner"] == learner}
        parts = [
            f"{head}: {_signed(row['diff_low'])} to {_signed(row['diff_high'])} "
            f"({row['best_baseline']})"
            for place, head in zip(places, _heads(places), strict=True)
            if (row := own.get(place)) is not None and row["diff_low"] is not None
        ]
        if parts:
            yield f"{learner} minus best baseline, interval: {'; '.join(parts)}"


def _heads(places: Sequence[Place]) -> list[str]:
    states = {state for state, _ in places}
    heads = []
    for state, k in places:
        size = "" if k is None else f"k={k}"
        heads.append(size if len(states) == 1 and size else f"{state} {size}".strip())
    return heads


def _interval(row: Row | None) -> str:
    if row is None or row["low"] is None:
        return ""
    mark = _mark(row["metric"], row["low"], row["high"])
    return f"{_signed(row['low'])}..{_signed(row['high'])}{mark or ' '}"


def _tables(places: Sequence[Place], body: Sequence[Sequence[str]]) -> list[str]:
    """One table, or one a state where there are many columns; rows without a cell are left out."""
    columns = list(range(len(places)))
    parts = [columns]
    if len(places) > _COLUMNS:
        states = dict.fromkeys(state for state, _ in places)
        parts = [[place for place in columns if places[place][0] == state] for state in states]
    lines: list[str] = []
    for part in parts:
        is_cut = len(parts) > 1
        name = places[part[0]][0] if is_cut else ""
        # The corner names the state: a head says what else there is to say.
        heads = _heads([places[place] for place in part])
        heads = ["all sizes" if is_cut and head == name else head for head in heads]
        cells = [[row[0], *(row[1 + place] for place in part)] for row in body]
        lines += _aligned([[name, *heads], *(row for row in cells if any(row[1:]))])
    return lines


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in table) for place in range(len(table[0]))]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def _figure(row: Row) -> str:
    return f"{_number(row['value'])}{verdict(row) or ' '}"


def _number(value: float) -> str:
    return f"{value:.3f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}"
