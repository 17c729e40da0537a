"""Per-task figures gathered by learner and support size."""

from __future__ import annotations

import polars as pl

from metarec_core.evaluation.metrics import calibration_error, catalogue_coverage
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
    "ece",
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

_SIZE = pl.col(Columns.SUPPORT_SIZE)
_NO_SIZE = pl.lit(None, dtype=pl.Int64)
_STATED = {
    "learner": pl.String(),
    "user": pl.Int64(),
    Columns.SUPPORT_SIZE: pl.Int64(),
    "probability": pl.Float64(),
    "relevant": pl.Boolean(),
}
_ERRORS = {
    "learner": pl.String(),
    "place": pl.Int64(),
    "value": pl.Float64(),
    "se": pl.Float64(),
    "n": pl.Int64(),
}
_ECE, _SHOWN = METRICS[-2:]
_BY_TASK = METRICS[:-2]


def summarise(tasks: pl.DataFrame, stated: pl.DataFrame | None = None) -> pl.DataFrame:
    """Mean, standard error and number of users of each metric.

    A user's tasks are averaged first, so that ``se`` counts users, not tasks: the figures are
    those that the gate compares. Catalogue coverage belongs to a set of lists, and the calibration
    error to a set of probabilities, not to a user; their ``se`` is null.

    Args:
        tasks: Frames of ``evaluate``, of one learner or of several concatenated.
        stated: Probabilities of relevance that the same learners stated, columns ``learner, user,
            support_size, probability, relevant``; None: no calibration error.

    Returns:
        A long frame of :data:`SUMMARY_SCHEMA`, learners in their order in ``tasks``, each with
        its support sizes ascending, then ``all``; a metric that a learner lacks is a row with a
        null ``value`` and ``n`` 0.
    """
    order = {name: place for place, name in enumerate(tasks["learner"].unique(maintain_order=True))}
    if stated is None:
        stated = pl.DataFrame(schema=_STATED)
    by_size = _figures(*(part.with_columns(place=_SIZE) for part in (tasks, stated)))
    overall = _figures(*(part.with_columns(place=_NO_SIZE) for part in (tasks, stated)))
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


def _figures(tasks: pl.DataFrame, stated: pl.DataFrame) -> pl.DataFrame:
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
        .with_columns(metric=pl.lit(_SHOWN))
    )
    parts = stated.group_by(keys, maintain_order=True)
    errors = pl.DataFrame([_error(key, part) for key, part in parts], _ERRORS, orient="row")
    calibration = coverage.select(*keys, metric=pl.lit(_ECE)).join(
        errors, on=keys, how="left", nulls_equal=True, maintain_order="left"
    )
    return pl.concat(
        [
            users,
            coverage.select(users.columns),
            calibration.with_columns(pl.col("n").fill_null(0)).select(users.columns),
        ]
    )


def _error(key: tuple[object, ...], stated: pl.DataFrame) -> tuple[object, ...]:
    value = calibration_error(stated["probability"].to_numpy(), stated["relevant"].to_numpy())
    return (*key, value, None, stated["user"].n_unique())
