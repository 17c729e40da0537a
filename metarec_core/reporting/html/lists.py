"""The published lists: figures of all of them, their spread by segment, lengths and flags."""

from __future__ import annotations

import altair as alt
import polars as pl

from metarec_core.evaluation.diversity import DIVERSITY_METRICS
from metarec_core.reporting.html.charts import Panel, Spec, finite, panels, spec_of
from metarec_core.reporting.html.markup import note, number, table, text
from metarec_core.reporting.html.profile import ListsProfile
from metarec_core.reporting.html.wording import heading
from metarec_core.schema import SEGMENT_BANDS, Columns

_FIGURES = {
    Columns.SCORE: ("Score", "what ranks an entry before rules and diversity"),
    Columns.RATING: ("Predicted rating", "mean of the forecast"),
    Columns.SD: ("Sd", "of the forecast with its noise; where none is made, of the score"),
    Columns.P_RELEVANT: ("P(relevant)", "calibrated"),
}


def metrics_section(figures: pl.DataFrame) -> tuple[str, list[Panel]] | None:
    """Figures of the lists, a row a metric, a column a segment where there are several."""
    if figures.is_empty():
        return None
    metrics = figures["metric"].unique(maintain_order=True).to_list()
    segments = _in_order(figures["segment"]) if "segment" in figures.columns else [None]
    values = {
        (row["metric"], row.get("segment")): row["value"] for row in figures.iter_rows(named=True)
    }
    rows = [
        [
            text(heading(metric)),
            text(DIVERSITY_METRICS.get(metric)),
            *(number(values.get((metric, segment)), 4) for segment in segments),
        ]
        for metric in metrics
    ]
    header = ("figure", "what it is", *(str(segment or "value") for segment in segments))
    return table(header, rows, numbers_from=2), []


def spread_section(lists: ListsProfile) -> tuple[str, list[Panel]] | None:
    """Score, rating, sd and probability by segment."""
    spread = finite(lists.spread)
    charts = [
        Panel(f"spread-{figure.replace('_', '-')}", title, hint, _chart(spread, figure))
        for figure, (title, hint) in _FIGURES.items()
        if figure in set(spread["figure"])
    ]
    words = (
        "By how many interactions of a user are known. The line spans nine tenths of the entries, "
        "the bar the middle half, the tick is the median."
    )
    return (note(words) + panels(charts), charts) if charts else None


def flags_section(lists: ListsProfile) -> tuple[str, list[Panel]] | None:
    """Why lists are short, and what rules did; None where neither happened."""
    parts = []
    if len(lists.short) or lists.without:
        rows = [[text(why), f"{count:,}"] for why, count in lists.short.iter_rows()]
        if lists.without:
            rows.insert(0, ["no entry at all", f"{lists.without:,}"])
        parts.append("<h3>Lists shorter than asked</h3>")
        parts.append(table(("why", "lists"), rows, numbers_from=1))
    if len(lists.flags):
        rows = [
            [text(flag), f"{count:,}", f"{count / max(lists.entries, 1):.1%}"]
            for flag, count in lists.flags.iter_rows()
        ]
        parts.append("<h3>Entries that a rule or re-ranking put where they stand</h3>")
        parts.append(table(("flag", "entries", "of all"), rows, numbers_from=1))
    return ("".join(parts), []) if parts else None


def _in_order(segments: pl.Series) -> list[str | None]:
    """Each segment once: whatever is no band, such as all users, then the bands."""
    bands = [name for _, name in SEGMENT_BANDS]
    found: list[str | None] = segments.unique(maintain_order=True).to_list()
    return [one for one in found if one not in bands] + [one for one in bands if one in found]


def _chart(spread: pl.DataFrame, figure: str) -> Spec:
    own = spread.filter(pl.col("figure") == figure).drop("figure")
    segments = own[Columns.SEGMENT].to_list()
    x = alt.X("segment:N").title("interactions known").sort(segments).axis(labelAngle=0)
    tooltip = [
        alt.Tooltip("segment:N", title="interactions"),
        alt.Tooltip("count:Q", title="entries", format=","),
        *(
            alt.Tooltip(f"{name}:Q", title=f"{int(name[1:])} %", format=".3f")
            for name in ("p05", "p25", "p50", "p75", "p95")
        ),
    ]
    base = alt.Chart(own).encode(x=x, tooltip=tooltip)
    low = alt.Y("p05:Q").title(None).scale(zero=False)
    return spec_of(
        base.mark_rule(strokeWidth=1.5).encode(y=low, y2="p95:Q"),
        base.mark_bar(size=18, style=["middle"]).encode(y=alt.Y("p25:Q"), y2="p75:Q"),
        base.mark_tick(size=18, thickness=2.5).encode(y=alt.Y("p50:Q")),
    )
