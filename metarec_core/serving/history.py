"""A caller's rows as users with histories: what can be used is, the rest is reported."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from metarec_core.episodes.types import InteractionMatrix, ValueScale
from metarec_core.schema import Columns, Feedback
from metarec_core.serving.cells import Frame, as_numbers, as_text, cells, column_names

IGNORED_SCHEMA = pl.Schema(
    {
        "row": pl.Int64(),
        Columns.USER: pl.String(),
        Columns.ITEM: pl.String(),
        "found": pl.String(),
        "reason": pl.String(),
    }
)
"""What was not used. ``row`` is the 0-based row of the caller's frame, null for a parameter;
``found`` the value at fault."""


@dataclass(frozen=True, slots=True)
class Histories:
    """Users in order of first appearance, with what they rated.

    Attributes:
        user_ids: ``[U]`` strings.
        matrix: One row a user, in catalogue indices, sorted by item.
        user_of_row: User id of each row of the frame, null where there is none.
        ignored: Rows left out, ``IGNORED_SCHEMA``.
    """

    user_ids: pl.Series
    matrix: InteractionMatrix
    user_of_row: pl.Series
    ignored: pl.DataFrame


def read_histories(frame: Frame, catalogue: pl.DataFrame, scale: ValueScale) -> Histories:
    """Sort a frame's rows into usable interactions and ignored ones.

    A row without item and rating only names a user. Of several rows of one user about one item
    the last counts. A rating column may be missing where feedback is implicit: each row is then
    a relevant event.

    Args:
        frame: ``user_id`` and perhaps ``item_id`` and ``rating``; other columns are left aside.
        catalogue: ``item_id`` in catalogue order.
        scale: Which values are legal.
    """
    rows = _rows(frame, scale)
    known = catalogue.select(Columns.ITEM).with_row_index("index")
    rows = rows.join(known, on=Columns.ITEM, how="left", maintain_order="left").with_columns(
        reason=_reason(scale)
    )
    usable = rows.filter(pl.col("reason").is_null() & pl.col(Columns.ITEM).is_not_null())
    last = usable.filter(pl.struct(Columns.USER, Columns.ITEM).is_last_distinct())
    repeated = usable.join(last.select("row"), on="row", how="anti")
    ignored = pl.concat(
        [
            rows.filter(pl.col("reason").is_not_null()),
            repeated.with_columns(reason=pl.lit("rated again further down; the last row counts")),
        ]
    ).sort("row")
    users = rows.select(Columns.USER).drop_nulls().unique(maintain_order=True)
    return Histories(
        user_ids=users[Columns.USER],
        matrix=_matrix(last, users),
        user_of_row=rows[Columns.USER],
        ignored=ignored.select(IGNORED_SCHEMA.names()).cast(IGNORED_SCHEMA),
    )


def _rows(frame: Frame, scale: ValueScale) -> pl.DataFrame:
    n_rows, names = len(frame), column_names(frame)
    missing = pl.repeat(None, n_rows, dtype=pl.String(), eager=True)
    items = as_text(cells(frame, Columns.ITEM)) if Columns.ITEM in names else missing
    if Columns.RATING in names:
        ratings = cells(frame, Columns.RATING)
    elif scale.feedback is Feedback.IMPLICIT:
        ratings = pl.repeat(scale.relevant_from, n_rows, dtype=pl.Float64(), eager=True)
        ratings = ratings.set(items.is_null(), None)
    else:
        ratings = missing
    return pl.DataFrame(
        {
            "row": pl.int_range(n_rows, eager=True),
            Columns.USER: as_text(cells(frame, Columns.USER)),
            Columns.ITEM: items,
            "found": as_text(ratings),
            Columns.VALUE: as_numbers(ratings),
        }
    )


def _reason(scale: ValueScale) -> pl.Expr:
    item, found, value = pl.col(Columns.ITEM), pl.col("found"), pl.col(Columns.VALUE)
    legal = value.is_between(scale.minimum, scale.maximum)
    return (
        pl.when(pl.col(Columns.USER).is_null())
        .then(pl.lit("no user_id"))
        .when(item.is_null() & found.is_not_null())
        .then(pl.lit("a rating without item_id"))
        .when(item.is_null())
        .then(None)
        .when(pl.col("index").is_null())
        .then(pl.lit("unknown item"))
        .when(found.is_null())
        .then(pl.lit("no rating"))
        .when(value.is_null() | ~value.is_finite())
        .then(pl.lit("rating is not a number"))
        .when(~legal)
        .then(pl.lit(f"rating outside {scale.minimum:g} to {scale.maximum:g}"))
    )


def _matrix(rows: pl.DataFrame, users: pl.DataFrame) -> InteractionMatrix:
    placed = rows.join(users.with_row_index("place"), on=Columns.USER).sort("place", "index")
    counts = np.bincount(placed["place"].to_numpy(), minlength=len(users))
    return InteractionMatrix(
        indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        items=placed["index"].cast(pl.Int64).to_numpy(),
        values=placed[Columns.VALUE].cast(pl.Float32).to_numpy(),
    )
