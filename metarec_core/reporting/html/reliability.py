"""The reliability plot: what was stated against what came, by segment."""

from __future__ import annotations

import altair as alt
import polars as pl

from metarec_core.calibration.reliability import ALL_SEGMENTS
from metarec_core.reporting.html.charts import Panel, Spec, finite, panels, spec_of
from metarec_core.reporting.html.markup import note

_GAP = (pl.col("observed") - pl.col("stated")).abs()


def reliability_section(bins: pl.DataFrame, learner: str | None) -> tuple[str, list[Panel]] | None:
    """One panel a segment; None where no bin holds anything.

    Args:
        bins: ``RELIABILITY_SCHEMA``.
        learner: Whose bins; where it has none, those of the last learner.
    """
    there = finite(bins).filter(pl.col("pairs") > 0).drop_nulls(["stated", "observed"])
    if there.is_empty():
        return None
    known = there["learner"].unique(maintain_order=True).to_list()
    whose = learner if learner in known else known[-1]
    own = there.filter(pl.col("learner") == whose)
    charts = []
    for place, segment in enumerate(own["segment"].unique(maintain_order=True)):
        part = own.filter(pl.col("segment") == segment)
        pairs = int(part["pairs"].sum())
        error = float(part.select(_GAP.dot("pairs")).item()) / pairs
        charts.append(
            Panel(
                key=f"reliability-{place}",
                title="All users" if segment == ALL_SEGMENTS else f"{segment} interactions known",
                hint=f"mean distance from the diagonal {error:.4f} over {pairs:,} pairs",
                spec=_chart(part),
            )
        )
    words = (
        f"P(relevant) as {whose} states it, against the share that was relevant. On the diagonal a "
        "statement means what it says; below it the model promises too much, above it too little. "
        "Each dot is a bin of about equally many pairs of a user and an item."
    )
    return note(words) + panels(charts), charts


def _chart(bins: pl.DataFrame) -> Spec:
    scale = alt.Scale(domain=[0, 1])
    x = alt.X("stated:Q").title("stated").scale(scale).axis(format=".0%", tickCount=5)
    y = alt.Y("observed:Q").title("relevant").scale(scale).axis(format=".0%", tickCount=5)
    ends = pl.DataFrame({"stated": [0.0, 1.0], "observed": [0.0, 1.0]})
    own = alt.Chart(bins.select("stated", "observed", "pairs").sort("stated")).encode(x=x, y=y)
    tooltip = [
        alt.Tooltip("stated:Q", format=".3f"),
        alt.Tooltip("observed:Q", title="relevant", format=".3f"),
        alt.Tooltip("pairs:Q", format=","),
    ]
    return spec_of(
        alt.Chart(ends).mark_line(style=["limit"]).encode(x=x, y=y),
        own.mark_line(strokeWidth=1.8),
        own.mark_point(filled=True, size=42, opacity=1).encode(tooltip=tooltip),
    )
