"""Figures of a night: accuracy, calibration, training and the sizes of supports.

Figures are made through matplotlib's object interface with the Agg canvas: no display, no global
state, safe in threads. Colours are those of Okabe & Ito (2008, "Color Universal Design"), which
people with any colour vision tell apart; marker and line style repeat the distinction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from metarec_core.evaluation.summarise import ALL_SIZES
from metarec_core.reporting.titles import metric_title
from metarec_core.schema import SEGMENT_BANDS, Columns

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_STYLES = ("-", "--", "-.", ":", "-", "--", "-.")
TEXT, QUIET, _GRID = "#222222", "#666666", "#DDDDDD"
_TWO_SIDED_95 = 1.96
_MAX_COLUMNS = 3
_MOST_BARS = 4
"""Learners in a figure that still all have bars."""


def accuracy_figure(
    summary: pl.DataFrame, metrics: Sequence[str] = ("ndcg_at_10", "mae")
) -> Figure:
    """Each learner's metrics by support size, one panel a metric.

    Bars span 1.96 standard errors over users on either side: they show how sure a learner's
    figure is; they overlap even where a paired comparison is clear. The challenger, the last
    learner, is drawn in black over the others.

    Args:
        summary: The long frame of ``summarise``.
        metrics: What to show; a metric that no learner has is left out.
    """
    shown = [metric for metric in metrics if _has(summary, metric)]
    figure, panels = canvas(len(shown), width=5.2, height=3.9)
    for axes, metric in zip(panels, shown, strict=True):
        better = "lower is better" if metric in {"mae", "rmse", "nll"} else "higher is better"
        heading(axes, metric_title(metric))
        axes.set_ylabel(better, color=QUIET)
        _lines_by_size(axes, summary, metric)
    legend(figure, panels)
    return figure


def calibration_figure(summary: pl.DataFrame) -> Figure:
    """Observed coverage of the 50 % and the 90 % predictive interval by support size.

    The dashed line is the nominal coverage: above it a learner is too careful, below it too sure.
    Learners that predict no value are left out.

    Args:
        summary: The long frame of ``summarise``.
    """
    levels = {"coverage_50": 0.5, "coverage_90": 0.9}
    shown = [metric for metric in levels if _has(summary, metric)]
    figure, panels = canvas(len(shown), width=5.2, height=3.9)
    for axes, metric in zip(panels, shown, strict=True):
        level = levels[metric]
        heading(axes, f"{level:.0%} predictive interval")
        axes.set_ylabel("query ratings inside it")
        axes.axhline(
            level, color=TEXT, linewidth=1.2, linestyle=(0, (5, 3)), zorder=1, label="nominal"
        )
        _lines_by_size(axes, summary, metric)
        low, high = axes.get_ylim()
        # At least ten points to either side, so that noise does not look like a fault.
        axes.set_ylim(max(0.0, min(low, level - 0.1)), min(1.0, max(high, level + 0.1)))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    legend(figure, panels)
    return figure


def training_figure(curves: Mapping[str, Sequence[float]], *, title: str = "") -> Figure:
    """Training curves by epoch, one panel a curve.

    Args:
        curves: Values by epoch, from epoch 1 on, by name; NaN leaves a gap.
        title: Printed above the panels, such as the learner's name.
    """
    shown = {name: values for name, values in curves.items() if len(values)}
    figure, panels = canvas(len(shown), width=4.2, height=3.2)
    for place, (axes, (name, values)) in enumerate(zip(panels, shown.items(), strict=True)):
        epochs = np.arange(1, len(values) + 1)
        # One point is no line.
        marker = "o" if len(values) < 15 else ""
        axes.plot(
            epochs,
            np.asarray(values, dtype=np.float64),
            color=COLOURS[place % len(COLOURS)],
            linewidth=1.8,
            marker=marker,
            markersize=4,
        )
        heading(axes, metric_title(name))
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if title and panels:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def support_figure(sizes: npt.NDArray[np.int64]) -> Figure:
    """How many users have how many interactions, by the bands of ``SEGMENT_BANDS``.

    Args:
        sizes: Interactions of each user, ``[U]``.
    """
    lower = [bound for bound, _ in SEGMENT_BANDS]
    bands = np.searchsorted(lower, sizes, side="right") - 1
    counts = np.bincount(bands, minlength=len(lower))
    figure, (axes,) = canvas(1, width=6.4, height=3.8)
    bars = axes.bar([name for _, name in SEGMENT_BANDS], counts, color=COLOURS[0], width=0.72)
    total = max(1, len(sizes))
    labels = [f"{count:,}\n{_share(count / total)}" for count in counts.tolist()]
    axes.bar_label(bars, labels=labels, padding=3, fontsize=9)
    axes.margins(y=0.2)
    axes.grid(axis="x", visible=False)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    heading(axes, f"{len(sizes):,} users by what is known of them")
    axes.set_xlabel("interactions")
    axes.set_ylabel("users")
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, without the version that would change its bytes."""
    figure.savefig(path, dpi=144, metadata={"Software": None})


def canvas(n_panels: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A grid of panels; without one, a figure that says that there is nothing to show."""
    columns = max(1, min(n_panels, _MAX_COLUMNS))
    rows = max(1, math.ceil(n_panels / columns))
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    if n_panels == 0:
        figure.text(0.5, 0.5, "nothing to show", ha="center", va="center", color=QUIET)
    panels = [figure.add_subplot(rows, columns, place + 1) for place in range(n_panels)]
    for axes in panels:
        _dress(axes)
    return figure, panels


def _share(part: float) -> str:
    """A percentage that does not call few none."""
    return "<1%" if 0.0 < part < 0.01 else f"{part:.0%}"


def _dress(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=3, colors=TEXT)


def heading(axes: Axes, text: str) -> None:
    """A panel's heading."""
    axes.set_title(text, loc="left", fontsize=11, fontweight="bold", color=TEXT)


def _has(summary: pl.DataFrame, metric: str) -> bool:
    values = summary.filter(pl.col("metric") == metric)["value"]
    return values.count() > 0


def _lines_by_size(axes: Axes, summary: pl.DataFrame, metric: str) -> None:
    """One line a learner; support sizes are evenly spaced, as they are chosen, not measured."""
    rows = summary.filter(
        (pl.col("metric") == metric) & (pl.col(Columns.SUPPORT_SIZE) != ALL_SIZES)
    )
    sizes = sorted(rows[Columns.SUPPORT_SIZE].unique().to_list(), key=int)
    learners = summary["learner"].unique(maintain_order=True).to_list()
    for place, learner in enumerate(learners):
        own = rows.filter((pl.col("learner") == learner) & pl.col("value").is_not_null())
        if own.is_empty():
            continue
        # A step aside keeps the bars of different learners apart. Of many learners only the
        # challenger, the last, has bars: nobody could read the others'.
        last = place == len(learners) - 1
        many = len(learners) > _MOST_BARS
        aside = 0.0 if many else (place - (len(learners) - 1) / 2) * 0.06
        spread = (own["se"].fill_null(0.0) * _TWO_SIDED_95).to_list()
        again = place // (len(COLOURS) - 1) % 2 == 1
        axes.errorbar(
            [sizes.index(size) + aside for size in own[Columns.SUPPORT_SIZE]],
            own["value"].to_list(),
            yerr=None if many and not last else spread,
            label=learner,
            color=COLOURS[-1] if last else COLOURS[place % (len(COLOURS) - 1)],
            marker=MARKERS[-1] if last else MARKERS[place % (len(MARKERS) - 1)],
            markerfacecolor="white" if again and not last else None,
            linestyle="-" if last else _STYLES[(place + again) % len(_STYLES)],
            linewidth=2.6 if last else 1.6,
            zorder=3 if last else 2,
            markersize=6,
            elinewidth=1.2,
            capsize=2.5,
        )
    axes.set_xticks(range(len(sizes)), sizes)
    axes.set_xlim(-0.4, len(sizes) - 0.6)
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("support size (interactions known)")


def legend(figure: Figure, panels: Sequence[Axes], columns: int = 5) -> None:
    """One legend above all panels."""
    entries = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if entries:
        figure.legend(
            list(entries.values()),
            list(entries),
            loc="outside upper left",
            ncols=min(len(entries), columns),
            frameon=False,
        )
