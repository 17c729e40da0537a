"""User features out of a caller's rows: the first value that is there, by user."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from metarec_core.episodes.types import FloatArray
from metarec_core.features.encoder import FeatureEncoder
from metarec_core.features.spec import FeatureSpec
from metarec_core.schema import Columns, FeatureKind
from metarec_core.serving.cells import Frame, as_lists, as_numbers, as_text, cells, column_names
from metarec_core.serving.history import IGNORED_SCHEMA


@dataclass(frozen=True, slots=True)
class UserFeatures:
    """Encoded features, and the cells that could not be read.

    Attributes:
        encoded: ``[U, Fu]`` float32, in the order of the users asked for.
        ignored: ``IGNORED_SCHEMA``.
    """

    encoded: FloatArray
    ignored: pl.DataFrame


def read_features(
    frame: Frame, user_of_row: pl.Series, user_ids: pl.Series, encoder: FeatureEncoder
) -> UserFeatures:
    """Encode the features of ``user_ids``; absent columns and cells are imputed.

    Args:
        frame: The caller's rows.
        user_of_row: User id of each row, null where there is none.
        user_ids: Users to encode, in order.
        encoder: What the model was trained with.
    """
    present = [name for name in column_names(frame) if name in encoder.specs]
    rows = pl.DataFrame({Columns.USER: user_of_row})
    ignored = [IGNORED_SCHEMA.to_frame()]
    for name in present:
        raw = cells(frame, name)
        values = _typed(raw, encoder.specs[name])
        rows = rows.with_columns(values.alias(name))
        if encoder.specs[name].kind is FeatureKind.NUMERIC:
            ignored.append(_unreadable(name, as_text(raw), values, user_of_row))
    first = rows.group_by(Columns.USER).agg(pl.col(present).drop_nulls().first())
    users = pl.DataFrame({Columns.USER: user_ids}).join(
        first, on=Columns.USER, how="left", maintain_order="left"
    )
    return UserFeatures(encoder.encode(users), pl.concat(ignored))


def _typed(raw: pl.Series | list[object], spec: FeatureSpec) -> pl.Series:
    if spec.kind is FeatureKind.NUMERIC:
        numbers = as_numbers(raw)
        return numbers.set(~numbers.is_finite(), None)
    if spec.kind is FeatureKind.MULTI:
        return as_lists(raw, spec.separator)
    return as_text(raw)


def _unreadable(
    name: str, text: pl.Series, values: pl.Series, user_of_row: pl.Series
) -> pl.DataFrame:
    cells_of = pl.DataFrame({Columns.USER: user_of_row, "found": text, "value": values})
    return (
        cells_of.with_row_index("row")
        .filter(
            pl.col("found").is_not_null()
            & pl.col("value").is_null()
            & pl.col(Columns.USER).is_not_null()
        )
        .select(
            pl.col("row").cast(pl.Int64),
            Columns.USER,
            pl.lit(None, dtype=pl.String()).alias(Columns.ITEM),
            "found",
            pl.lit(f"feature {name} is not a number").alias("reason"),
        )
    )
