"""How good the reasons are: figures, and what removing or inserting them does."""

from __future__ import annotations

import altair as alt
import polars as pl

from metarec_core.reporting.html.charts import Panel, Spec, finite, legend, panels, spec_of
from metarec_core.reporting.html.markup import note, number, table, text
from metarec_core.reporting.html.wording import heading

_SAID = {
    "users": "users of the sample",
    "completeness": "largest difference between a score and the sum of its shares",
    "deletion_auc": "area under the curve as the strongest reasons go; small is good",
    "insertion_auc": "area under the curve as the strongest reasons come; large is good",
    "deletion_at_random_auc": "the same in random order",
    "insertion_at_random_auc": "the same in random order",
    "places_lost": (
        "mean places that an entry falls, by score alone, without its strongest reason"
    ),
    "places_lost_median": "the median of it",
    "left_the_list": (
        "of the first entries by score alone, as many as recommend.explanations.entries says, the "
        "share that is no longer among as many first ones without its strongest reason"
    ),
    "mass_in_top_3": "share of all effect that the three strongest reasons have",
    "entries_in_both": "share of entries in the former night's lists too, of users who had one",
    "reasons_overlap": "of those, share of named interactions that are the same (Jaccard)",
    "reasons_correlation": "rank correlation of their shares between the two nights",
}


_TITLES = {"left_the_list": "Fell out of the first"}
"""Figures that are called something else in files than what they are."""


def explanations_section(
    figures: pl.DataFrame | None, curves: pl.DataFrame | None
) -> tuple[str, list[Panel]] | None:
    """Figures as a table, curves as a panel; None where there is neither."""
    body, charts = "", list[Panel]()
    if figures is not None and len(figures):
        rows = [
            [text(_TITLES.get(name, heading(name))), text(_SAID.get(name)), _figure(name, value)]
            for name, value in _pairs(figures)
        ]
        body += table(("figure", "what it is", "value"), rows, numbers_from=2)
    drawn = finite(curves).drop_nulls("value") if curves is not None else pl.DataFrame()
    if len(drawn):
        names = drawn["curve"].unique(maintain_order=True).to_list()
        charts.append(
            Panel(
                key="explanation-curves",
                title="Deletion and insertion",
                hint="visibility of the first entry by the share of the history, strongest first",
                spec=_chart(drawn, names),
            )
        )
        words = (
            "Interactions are taken out of a user's history, the ones that the reasons call the "
            "strongest first, or given back in the same order. Visibility is 1 / log2(1 + place) "
            "in the whole catalogue. Where reasons are true it falls faster than at random when "
            "they are deleted, and rises faster when they are inserted."
        )
        body += note(words) + legend(names) + panels(charts)
    return (body, charts) if body else None


def _pairs(figures: pl.DataFrame) -> list[tuple[str, float | None]]:
    return list(figures.select("metric", pl.col("value").cast(pl.Float64)).iter_rows())


def _figure(name: str, value: float | None) -> str:
    if name == "users":
        return number(value, 0)
    # A difference of 1e-7 is the point of this one.
    return f"{value:.1e}" if name == "completeness" and value is not None else number(value, 4)


def _chart(curves: pl.DataFrame, names: list[str]) -> Spec:
    own = alt.Chart(curves.select("curve", "removed", "value").sort("curve", "removed"))
    encoded = own.encode(
        x=alt.X("removed:Q").title("share of the history").axis(format=".0%", tickCount=5),
        y=alt.Y("value:Q").title("visibility"),
        color=alt.Color("curve:N").scale(domain=names).legend(None),
        tooltip=[
            alt.Tooltip("curve:N"),
            alt.Tooltip("removed:Q", format=".3f"),
            alt.Tooltip("value:Q", format=".4f"),
        ],
    )
    return spec_of(
        encoded.mark_line(strokeWidth=1.8),
        encoded.mark_point(filled=True, size=34, opacity=1).encode(
            shape=alt.Shape("curve:N").scale(domain=names).legend(None)
        ),
    )
