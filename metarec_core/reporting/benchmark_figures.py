"""Figures of a benchmark: who wins where, how true the stated uncertainty is, and at what cost.

Learners of our own are drawn in colours, each with its marker; baselines are grey, and the best of
them at each place is the black dashed line that is to be beaten.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from metarec_core.reporting.benchmark import (
    LEVELS,
    LOWER,
    Row,
    better,
    is_whole,
    places_of,
    standing,
)
from metarec_core.reporting.figures import (
    COLOURS,
    MARKERS,
    QUIET,
    TEXT,
    canvas,
    heading,
    legend,
)
from metarec_core.reporting.titles import metric_title
from metarec_core.schema import SEGMENT_BANDS

_TWO_SIDED_95 = 1.96
_GREY = "#9A9A9A"
_BANDS = [name for _, name in SEGMENT_BANDS]
_CALIBRATION: Mapping[str, float | None] = {**LEVELS, "ece": None}
_TOLERATED = 0.02
_TITLE_LETTERS = 52
"""Width of a line above a panel; a longer one runs into the next panel's."""

_INSTANT = 1e-2
"""Seconds below which nobody cares."""
_WORTH_SHOWING = 0.5
"""Share of the best figure below which a spot is named, not drawn."""
_LETTER, _LINE = 6.2, 9.0
"""Width of a letter and height of a line of labels, in points."""
_RISES = (-4.0, 9.0, -17.0, 21.0, -29.0, 33.0, -41.0)
"""How far above its spot a label may stand, the nearest first."""
_CHANCE = frozenset({"random"})
"""Left out of the lines: it would squeeze all others into a corner."""


def accuracy_by_support(document: Mapping[str, Any], headline: Sequence[str]) -> Figure:
    """The headline metric by support size, one panel a state, 1.96 standard errors either side.

    Args:
        document: What ``document`` made.
        headline: Metrics in order of preference; a state shows the first that it has.
    """
    states = list(
        dict.fromkeys(row["state"] for row in document["rows"] if row["state"] and is_whole(row))
    )
    figure, panels = canvas(len(states), width=8.0 if len(states) == 1 else 5.6, height=4.8)
    for axes, state in zip(panels, states, strict=True):
        measured = {row["metric"] for row in document["rows"] if row["state"] == state}
        metric = next(name for name in headline if name in measured)
        _accuracy(axes, document, state, metric)
    legend(figure, panels, columns=4 if len(states) < 3 else 8)
    return figure


def calibration_by_state(document: Mapping[str, Any]) -> Figure | None:
    """Coverage of predictive intervals and error of P(relevant) by state; None without any.

    Coverage within two points of its level (the shaded band) is what is asked for.
    """
    rows = [row for row in document["rows"] if row["metric"] in _CALIBRATION and is_whole(row)]
    metrics = [name for name in _CALIBRATION if any(row["metric"] == name for row in rows)]
    if not metrics:
        return None
    figure, panels = canvas(len(metrics), width=5.4, height=4.6)
    states = [state for state, _ in places_of(rows)]
    colours = _colours(document)
    for axes, metric in zip(panels, metrics, strict=True):
        level = _CALIBRATION[metric]
        heading(axes, metric_title(metric))
        if level is not None:
            axes.axhspan(level - _TOLERATED, level + _TOLERATED, color="#D9EAD3", zorder=0)
            axes.axhline(level, color=TEXT, linewidth=1.2, linestyle=(0, (5, 3)), label="nominal")
        learners = dict.fromkeys(row["learner"] for row in rows)
        for place, learner in enumerate(learners):
            own = {
                row["state"]: row["value"]
                for row in rows
                if row["metric"] == metric and row["learner"] == learner
            }
            aside = (place - (len(learners) - 1) / 2) * 0.7 / max(len(learners), 1)
            colour, marker = colours.get(learner, (_GREY, _marker(place)))
            axes.plot(
                [states.index(state) + aside for state in own],
                list(own.values()),
                linestyle="",
                marker=marker,
                markersize=7,
                color=colour,
                label=learner,
            )
        axes.set_xticks(range(len(states)), states, rotation=20, ha="right")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        if level is None:
            axes.set_ylim(bottom=0.0)
            axes.set_ylabel("lower is better", color=QUIET)
    legend(figure, panels)
    return figure


def accuracy_against_time(document: Mapping[str, Any], headline: Sequence[str]) -> Figure:
    """The headline metric, averaged over whole states and support sizes, against fitting time."""
    metric = headline[0]
    colours = _colours(document)
    figure, (axes,) = canvas(1, width=8.0, height=4.8)
    axes.set_xlabel("wall seconds to fit, a study (log)")
    axes.set_ylabel(f"mean over all places, {better(metric)}", color=QUIET)
    axes.set_xscale("log")
    spots = _spots(document, metric)
    best = max((value for _, (_, value) in spots), default=0.0)
    shown = [(name, spot) for name, spot in spots if spot[1] >= _WORTH_SHOWING * best]
    for place, (learner, spot) in enumerate(shown):
        colour, marker = colours.get(learner, (_GREY, _marker(place)))
        axes.plot(*spot, marker=marker, markersize=9, color=colour, linestyle="", zorder=3)
    if metric in LOWER:
        axes.invert_yaxis()
    axes.margins(x=0.12, y=0.15)
    hidden = [name for name, _ in spots if name not in dict(shown)]
    text = f"{metric_title(metric)} against time to fit"
    heading(axes, f"{text}\nfar behind: {', '.join(hidden)}" if hidden else text)
    _label(figure, axes, shown, colours)
    return figure


def _label(
    figure: Figure,
    axes: Axes,
    spots: Sequence[tuple[str, tuple[float, float]]],
    colours: Mapping[str, tuple[str, str]],
) -> None:
    """Write each name beside its spot, where it covers no other name and no spot."""
    figure.canvas.draw()
    points = {name: axes.transData.transform(spot) * 72.0 / figure.dpi for name, spot in spots}
    taken = [(x - 6.0, y - 6.0, x + 6.0, y + 6.0) for x, y in points.values()]
    for name, spot in spots:
        x, y = points[name]
        width = _LETTER * len(name)
        choices = [(dx if dx > 0 else dx - width, dy) for dy in _RISES for dx in (9.0, -9.0)]
        boxes = [(x + dx, y + dy, x + dx + width, y + dy + _LINE) for dx, dy in choices]
        free = [place for place, box in enumerate(boxes) if not any(_meet(box, t) for t in taken)]
        place = free[0] if free else 0
        taken.append(boxes[place])
        axes.annotate(
            name,
            spot,
            xytext=choices[place],
            textcoords="offset points",
            fontsize=9,
            color=TEXT if name in colours else QUIET,
            fontweight="bold" if name in colours else "normal",
        )


def _meet(one: Sequence[float], other: Sequence[float]) -> bool:
    apart = one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]
    return not apart


def _spots(document: Mapping[str, Any], metric: str) -> list[tuple[str, tuple[float, float]]]:
    """Seconds and mean figure of each learner, by seconds."""
    found = {}
    for learner in dict.fromkeys(row["learner"] for row in document["rows"]):
        own = [row for row in document["rows"] if row["learner"] == learner]
        values = [row["value"] for row in own if row["metric"] == metric and is_whole(row)]
        seconds = [row["value"] for row in own if row["metric"] == "fit_seconds"]
        if values and seconds and learner not in _CHANCE:
            found[learner] = (max(seconds[0], _INSTANT), sum(values) / len(values))
    return sorted(found.items(), key=lambda entry: entry[1])


def _accuracy(axes: Axes, document: Mapping[str, Any], state: str, metric: str) -> None:
    rows = [
        row
        for row in document["rows"]
        if row["metric"] == metric and row["learner"] not in _CHANCE and _is_of(row, state)
    ]
    places = _ticks(rows)
    colours = _colours(document)
    best: dict[str, float] = {}
    met = list(dict.fromkeys(row["learner"] for row in rows))
    # Ours first: the legend stands in this order.
    learners = sorted(met, key=lambda learner: learner not in colours)
    ours = [learner for learner in learners if learner in colours]
    for place, learner in enumerate(learners):
        own = {_tick(row): row for row in rows if row["learner"] == learner}
        shown = [tick for tick in places if tick in own]
        values = [own[tick]["value"] for tick in shown]
        if learner in colours:
            colour, marker = colours[learner]
            aside = (ours.index(learner) - (len(ours) - 1) / 2) * 0.08
            axes.errorbar(
                [places.index(tick) + aside for tick in shown],
                values,
                yerr=[_TWO_SIDED_95 * (own[tick]["se"] or 0.0) for tick in shown],
                color=colour,
                marker=marker,
                linewidth=2.0,
                markersize=6,
                capsize=2.5,
                label=learner,
                zorder=4,
            )
            continue
        axes.plot(
            [places.index(tick) for tick in shown],
            values,
            color=_GREY,
            marker=_marker(place),
            linewidth=0.9,
            markersize=4.5,
            label=learner,
            zorder=2,
        )
        for tick, value in zip(shown, values, strict=True):
            pick = min if metric in LOWER else max
            best[tick] = pick(best.get(tick, value), value)
    leading = [tick for tick in places if tick in best]
    axes.plot(
        [places.index(tick) for tick in leading],
        [best[tick] for tick in leading],
        color="#000000",
        linestyle=(0, (4, 2)),
        linewidth=1.6,
        label="best baseline",
        zorder=3,
    )
    _focus(axes, rows, best, ours, metric)
    axes.set_xticks(range(len(places)), places)
    axes.set_xlabel("support size (interactions known)")
    axes.set_ylabel(f"{metric_title(metric)}, {better(metric)}", color=QUIET)
    axes.grid(axis="x", visible=False)
    lines = textwrap.wrap(standing(document, state, metric), _TITLE_LETTERS)
    heading(axes, "\n".join([state, *lines]))


def _focus(
    axes: Axes, rows: Sequence[Row], best: Mapping[str, float], ours: Sequence[str], metric: str
) -> None:
    """Show the contest: baselines far behind it are named in a corner, not drawn to scale."""
    contest = [*best.values(), *(row["value"] for row in rows if row["learner"] in ours)]
    if not contest:
        return
    low, high = min(contest), max(contest)
    margin = max(high - low, 0.05 * abs(high)) * 0.6
    # No measure but the likelihood goes below zero; where none does, neither do the axes.
    low, high = low - margin if low < 0.0 else max(low - margin, 0.0), high + margin
    axes.set_ylim((high, low) if metric in LOWER else (low, high))
    hidden = [
        learner
        for learner in dict.fromkeys(row["learner"] for row in rows)
        if not any(low <= row["value"] <= high for row in rows if row["learner"] == learner)
    ]
    if hidden:
        text = f"far behind: {', '.join(hidden)}"
        axes.text(0.02, 0.02, text, transform=axes.transAxes, fontsize=8, color=QUIET)


def _is_of(row: Row, state: str) -> bool:
    """Rows of the state by size; without sizes, those of its bands."""
    own, _, band = (row["state"] or "").partition(":")
    return own == state and (row["k"] is not None or bool(band))


def _tick(row: Row) -> str:
    return str(row["k"]) if row["k"] is not None else str(row["state"]).partition(":")[2]


def _ticks(rows: Sequence[Row]) -> list[str]:
    found = set(map(_tick, rows))
    if all(tick.isdigit() for tick in found):
        return sorted(found, key=int)
    return [band for band in _BANDS if band in found]


def _colours(document: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    return {
        learner: (COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)])
        for place, learner in enumerate(document["challengers"])
    }


def _marker(place: int) -> str:
    return "ov^<>sdph*"[place % 10]
