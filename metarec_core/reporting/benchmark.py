"""A benchmark in lines: our figures beside those of others, and who beats the best baseline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from metarec_core.reporting.titles import metric_title

LOWER = frozenset({"mae", "rmse", "nll", "ece"})
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
    better = "lower is better" if metric in LOWER else "higher is better"
    lines = [f"{metric_title(metric)} ({better})", *_aligned([["", *_heads(places)], *body])]
    return lines + list(_differences(rows, places, document["challengers"]))


def is_whole(row: Row) -> bool:
    """Whether a row is about a whole state, not about a band of support sizes or about costs."""
    return row["state"] is not None and ":" not in row["state"]


def places_of(rows: Iterable[Row]) -> list[Place]:
    """Every (state, k) of the rows, in their order."""
    return list(dict.fromkeys((row["state"], row["k"]) for row in rows))


def verdict(row: Row) -> str:
    """``+`` better than the best baseline beyond doubt, ``-`` worse, else nothing."""
    low, high = row["diff_low"], row["diff_high"]
    if low is None or high is None:
        return ""
    better, worse = (high < 0, low > 0) if row["metric"] in LOWER else (low > 0, high < 0)
    return "+" if better else "-" if worse else ""


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
