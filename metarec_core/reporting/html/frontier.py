"""The accuracy-diversity frontier: what every method costs and gives."""

from __future__ import annotations

from typing import cast

import altair as alt
import polars as pl

from metarec_core.evaluation.diversity import DIVERSITY_METRICS
from metarec_core.ranking.diversity.frontier import ACCURACY, TOLERANCE, choose_strength
from metarec_core.ranking.diversity.settings import MethodName
from metarec_core.reporting.html.charts import Panel, Spec, finite, legend, panels, spec_of
from metarec_core.reporting.html.markup import MISSING, note, number, table, text
from metarec_core.reporting.html.record import ChosenPoint
from metarec_core.reporting.html.wording import heading

PURE = "none"

LESS_IS_MORE = frozenset({"category_calibration_error", "gini", "popularity_lift"})
"""Metrics whose small values are the diverse ones."""

Built = tuple[str, list[Panel]]


def frontier_section(figures: pl.DataFrame, chosen: ChosenPoint | None) -> Built | None:
    """One panel a diversity metric, one line a method; None where nothing was measured."""
    figures = finite(figures)
    pairs = _pairs(figures.drop_nulls("value"))
    measured = set(pairs["metric"])
    metrics = [name for name in DIVERSITY_METRICS if name in measured]
    metrics += sorted(measured - set(metrics))
    if not metrics:
        return None
    methods = [one for one in figures["method"].unique(maintain_order=True) if one != PURE]
    charts = [
        Panel(
            key=f"frontier-{place}",
            title=heading(metric),
            hint=_hint(metric),
            spec=_chart(pairs.filter(pl.col("metric") == metric), metric, methods, chosen),
        )
        for place, metric in enumerate(metrics)
    ]
    words = (
        "Each line is a method of re-ranking, each point a strength. Up is more accurate, right is "
        "more diverse. The diamond is the list by score alone; the dashed line lies 1 % of NDCG@10 "
        "below it."
    )
    if chosen is not None and chosen.method != PURE:
        words += f" The ring is what was published: {chosen.method} at {chosen.strength:g}."
    body = note(words) + legend(methods) + panels(charts)
    return body + _affordable(figures, pairs, methods, metrics), charts


def _hint(metric: str) -> str:
    said = DIVERSITY_METRICS.get(metric, "")
    return f"{said}; less is more diverse" if metric in LESS_IS_MORE else said


def _pairs(figures: pl.DataFrame) -> pl.DataFrame:
    """``method, strength, accuracy, loss_se, metric, value``, a row a diversity figure."""
    accuracy = figures.filter(pl.col("metric") == ACCURACY).select(
        "method", "strength", pl.col("value").alias("accuracy"), "loss_se"
    )
    others = figures.filter(pl.col("metric") != ACCURACY).drop("loss_se")
    return others.join(
        accuracy, on=["method", "strength"], how="inner", maintain_order="left"
    ).select("method", "strength", "accuracy", "loss_se", "metric", "value")


def _chart(
    pairs: pl.DataFrame, metric: str, methods: list[str], chosen: ChosenPoint | None
) -> Spec:
    scale = alt.Scale(zero=False, reverse=metric in LESS_IS_MORE)
    x = alt.X("value:Q").title(None).scale(scale).axis(tickCount=5)
    y = alt.Y("accuracy:Q").title("NDCG@10").scale(zero=False).axis(format=".3f", tickCount=5)
    tooltip = [
        alt.Tooltip("method:N"),
        alt.Tooltip("strength:Q"),
        alt.Tooltip("value:Q", title=metric.replace("_", " "), format=".4f"),
        alt.Tooltip("accuracy:Q", title="NDCG@10", format=".4f"),
    ]
    colour = alt.Color("method:N").scale(domain=methods).legend(None)
    ranked = pairs.filter(pl.col("method") != PURE).sort("method", "strength")
    base = alt.Chart(ranked).encode(x=x, y=y, color=colour)
    layers: list[alt.Chart] = [
        base.mark_line(strokeWidth=1.8).encode(order="strength:Q"),
        base.mark_point(filled=True, size=34, opacity=1).encode(
            shape=alt.Shape("method:N").scale(domain=methods).legend(None), tooltip=tooltip
        ),
    ]
    pure = pairs.filter(pl.col("method") == PURE)
    if len(pure):
        limit = pl.DataFrame({"accuracy": [pure["accuracy"][0] * (1.0 - TOLERANCE)]})
        layers.append(alt.Chart(limit).mark_rule(style=["limit"]).encode(y=y))
        layers.append(
            alt.Chart(pure)
            .mark_point(shape="diamond", filled=True, size=110, opacity=1, style=["pure"])
            .encode(x=x, y=y, tooltip=tooltip)
        )
    if chosen is not None:
        marked = pairs.filter(
            (pl.col("method") == chosen.method)
            & ((pl.col("strength") - chosen.strength).abs() < 1e-9)
        )
        if len(marked):
            layers.append(
                alt.Chart(marked)
                .mark_point(shape="circle", filled=False, size=230, opacity=1, style=["chosen"])
                .encode(x=x, y=y, tooltip=tooltip)
            )
    return spec_of(*layers)


def _affordable(
    figures: pl.DataFrame, pairs: pl.DataFrame, methods: list[str], metrics: list[str]
) -> str:
    """What each method may be set to for 1 % of the accuracy, by the rule of ``gentle``."""
    pure = pairs.filter(pl.col("method") == PURE)
    if pure.is_empty():
        return ""
    rows = [_row("by score alone", pure, pure, metrics)]
    ranked = set(pairs["method"])
    for method in (one for one in methods if one in ranked):
        strength = choose_strength(figures, cast(MethodName, method))
        best = pairs.filter((pl.col("method") == method) & (pl.col("strength") == strength))
        if len(best):
            rows.append(_row(f"{method} at {strength:g}", best, pure, metrics))
    header = ("list", "NDCG@10", "lost", "standard error")
    return (
        "<h3>For at most 1 % of NDCG@10</h3>"
        + note(
            "The largest strength of each method up to which no strength that was tried lost more "
            "than 1 % of NDCG@10, one standard error added: what the preset gentle takes. The "
            f"standard error is that of the loss{_measured_on(figures)}."
        )
        + table((*header, *(metric.replace("_", " ") for metric in metrics)), rows, numbers_from=1)
    )


def _measured_on(figures: pl.DataFrame) -> str:
    counts = figures.filter((pl.col("method") == PURE) & (pl.col("metric") == ACCURACY))["n_users"]
    users = counts.max()
    return f" over {users:,} users" if isinstance(users, int) else ""


def _row(name: str, point: pl.DataFrame, pure: pl.DataFrame, metrics: list[str]) -> list[str]:
    values = dict(point.select("metric", "value").iter_rows())
    accuracy, before = point["accuracy"][0], pure["accuracy"][0]
    lost = 1.0 - accuracy / before if before else None
    return [
        text(name),
        number(accuracy, 4),
        _percent(lost),
        _percent(point["loss_se"][0]),
        *(number(values.get(metric)) for metric in metrics),
    ]


def _percent(share: float | None) -> str:
    # Rounded to nothing, a gain has no sign either.
    return MISSING if share is None else f"{round(share, 4) + 0.0:.2%}"
