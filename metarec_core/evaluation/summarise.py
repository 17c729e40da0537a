"""Per-task figures gathered by learner and support size."""

from __future__ import annotations

import polars as pl

from metarec_core.evaluation.metrics import catalogue_coverage
from metarec_core.schema import Columns

ALL_SIZES = "all"
"""Name of the row that holds every support size together."""

METRICS: tuple[str, ...] = (
    "ndcg_at_10",
    "recall_at_20",
    "mae",
    "rmse",
    "nll",
    "coverage_50",
    "coverage_90",
    "catalogue_coverage_at_10",
)
"""Every metric of :func:`summarise`, in its order."""

SUMMARY_SCHEMA = pl.Schema(
    {
        "learner": pl.String(),
        Columns.SUPPORT_SIZE: pl.String(),
        "metric": pl.String(),
        "value": pl.Float64(),
        "se": pl.Float64(),
        "n": pl.Int64(),
    }
)
"""One figure. ``n`` counts users, ``se`` is the standard error over users."""

_BY_TASK = METRICS[:-1]


def summarise(tasks: pl.DataFrame) -> pl.DataFrame:
    """Mean, standard error and number of users of each metric.

    A user's tasks are averaged first, so that ``se`` counts users, not tasks: the figures are
    those that the gate compares. Catalogue coverage belongs to a set of lists, not to a user; its
    ``se`` is null.

    Args:
        tasks: Frames of ``evaluate``, of one learner or of several concatenated.

    Returns:
        A long frame of :data:`SUMMARY_SCHEMA`, learners in their order in ``tasks``, each with
        its support sizes ascending, then ``all``; a metric that a learner lacks is a row with a
        null ``value`` and ``n`` 0.
    """
    order = {name: place for place, name in enumerate(tasks["learner"].unique(maintain_order=True))}
    by_size = _figures(tasks.with_columns(place=pl.col(Columns.SUPPORT_SIZE)))
    overall = _figures(tasks.with_columns(place=pl.lit(None, dtype=pl.Int64)))
    return (
        pl.concat([by_size, overall])
        .sort(
            pl.col("learner").replace_strict(order, return_dtype=pl.Int64),
            pl.col("place"),
            pl.col("metric").replace_strict(
                {name: place for place, name in enumerate(METRICS)}, return_dtype=pl.Int64
            ),
            nulls_last=True,
        )
        .with_columns(
            pl.col("place").cast(pl.String).fill_null(ALL_SIZES).alias(Columns.SUPPORT_SIZE)
        )
        .select(pl.col(name).cast(kind) for name, kind in SUMMARY_SCHEMA.items())
    )


def _figures(tasks: pl.DataFrame) -> pl.DataFrame:
    keys = ["learner", "place"]
    users = (
        tasks.sort("user", Columns.SUPPORT_SIZE)
        .group_by(*keys, "user", maintain_order=True)
        .agg(pl.col(*_BY_TASK).mean())
        .unpivot(_BY_TASK, index=[*keys, "user"], variable_name="metric")
        .group_by(*keys, "metric", maintain_order=True)
        .agg(
            pl.col("value").mean(),
            (pl.col("value").std() / pl.col("value").count().sqrt()).alias("se"),
            pl.col("value").count().cast(pl.Int64).alias("n"),
        )
    )
    coverage = (
        tasks.group_by(keys, maintain_order=True)
        .agg(
            catalogue_coverage(pl.col("top_10"), pl.col("catalogue_size")).alias("value"),
            pl.lit(None, dtype=pl.Float64).alias("se"),
            pl.col("user").n_unique().cast(pl.Int64).alias("n"),
        )
        .with_columns(metric=pl.lit(METRICS[-1]))
    )
    return pl.concat([users, coverage.select(users.columns)])
