"""The reliability plot: what was stated against what came."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from metarec_core.calibration.reliability import ALL_SEGMENTS
from metarec_core.reporting.figures import (
    COLOURS,
    MARKERS,
    QUIET,
    TEXT,
    canvas,
    heading,
    legend,
)
from metarec_core.schema import Columns

_TWO_SIDED_95 = 1.96
_CROWDED = 2
"""Learners of which each has bars; of more nobody could tell them apart."""


def reliability_figure(bins: pl.DataFrame, learners: Sequence[str]) -> Figure:
    """Share of relevant pairs against the stated probability, one panel a segment.

    On the diagonal what is stated is what came; above it the learner promises too little, below it
    too much. Each point is a bin of equally many pairs of a user and an item, and spans 1.96
    standard errors of their share; a panel says how many pairs and users it rests on, and the mean
    distance of a learner's points from the diagonal.

    Args:
        bins: ``RELIABILITY_SCHEMA``.
        learners: Whose to draw, the most important last; one without a bin is left out.
    """
    shown = bins.filter(pl.col("learner").is_in(list(learners)))
    segments = shown[Columns.SEGMENT].unique(maintain_order=True).to_list()
    figure, panels = canvas(len(segments), width=4.4, height=4.2)
    for axes, segment in zip(panels, segments, strict=True):
        part = shown.filter(pl.col(Columns.SEGMENT) == segment)
        axes.plot([0, 1], [0, 1], color=TEXT, linewidth=1.2, linestyle=(0, (5, 3)), label="as said")
        for place, learner in enumerate(learners):
            own = part.filter(pl.col("learner") == learner)
            if not own.is_empty():
                _line(axes, own, learner, len(learners) - 1 - place, len(learners))
        sizes = "all support sizes" if segment == ALL_SEGMENTS else f"{segment} known"
        heading(axes, f"{sizes}: {_counts(part, learners)}")
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.set_xlabel("stated P(relevant)")
        axes.set_ylabel("found relevant", color=QUIET)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    legend(figure, panels)
    return figure


def _line(axes: Axes, own: pl.DataFrame, learner: str, place: int, among: int) -> None:
    observed = own["observed"].to_numpy()
    stated, pairs = own["stated"].to_numpy(), own["pairs"].to_numpy()
    error = float(np.average(np.abs(observed - stated), weights=pairs))
    spread = _TWO_SIDED_95 * np.sqrt(observed * (1.0 - observed) / pairs)
    first = place == 0
    axes.errorbar(
        stated,
        observed,
        yerr=spread if first or among <= _CROWDED else None,
        label=learner,
        color=COLOURS[-1] if first else COLOURS[(place - 1) % (len(COLOURS) - 1)],
        marker=MARKERS[place % len(MARKERS)],
        markersize=5,
        linewidth=2.0 if first else 1.4,
        elinewidth=1.0,
        zorder=3 if first else 2,
    )
    axes.text(
        0.97,
        0.04 + 0.07 * place,
        f"{learner}: error {error:.3f}",
        transform=axes.transAxes,
        ha="right",
        fontsize=9,
        color=TEXT if first else QUIET,
    )


def _counts(part: pl.DataFrame, learners: Sequence[str]) -> str:
    """Pairs of the most important learner that has any."""
    has = set(part["learner"])
    leading = next(learner for learner in reversed(learners) if learner in has)
    return f"{part.filter(pl.col('learner') == leading)['pairs'].sum():,} pairs"
