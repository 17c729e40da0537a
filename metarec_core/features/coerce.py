"""Bring a column of any frame to the type of its feature."""

from __future__ import annotations

import polars as pl

from metarec_core.errors import ModelError
from metarec_core.features.fitted import MISSING_LABEL, missing_name
from metarec_core.features.spec import FeatureSpec
from metarec_core.schema import FEATURE_TYPES, FeatureKind


def coerced(frame: pl.DataFrame, name: str, spec: FeatureSpec) -> pl.Series:
    """The column ``name`` in the type of its kind; nulls where it has no usable value.

    A column that is not there is all null. Blank texts, empty lists, NaN, infinities and texts
    that are no number are null, and so is what :meth:`FeatureEncoder.impute` put into gaps.

    Raises:
        ModelError: If the column's type cannot be such a feature.
    """
    wanted = FEATURE_TYPES[spec.kind]
    if name not in frame.columns:
        return pl.Series(name, [None] * frame.height, dtype=wanted)
    column = frame[name]
    try:
        if spec.kind is FeatureKind.NUMERIC:
            return _number(column, frame)
        if spec.kind is FeatureKind.MULTI:
            return _categories(column, spec.separator)
        return _text(column)
    except pl.exceptions.PolarsError as error:
        raise ModelError(
            f"feature {name}",
            found=f"a column of type {column.dtype}",
            wanted=f"values of a {spec.kind} feature ({wanted}), or text that says the same",
            next_step="convert the column, or leave it out: a missing feature is legal",
        ) from error


def _number(column: pl.Series, frame: pl.DataFrame) -> pl.Series:
    if column.dtype == pl.String:
        column = column.str.strip_chars()
    numbers = column.cast(pl.Float64, strict=False)
    usable = numbers.is_finite().fill_null(value=False)
    flag = missing_name(column.name)
    if flag in frame.columns:
        usable &= ~frame[flag].cast(pl.Boolean).fill_null(value=False)
    return numbers.set(~usable, None)


def _text(column: pl.Series) -> pl.Series:
    if column.dtype.is_float():
        # A column of whole numbers with gaps comes from pandas as floats: 7.0 is '7'.
        whole = column.is_finite() & (column == column.floor()) & (column.abs() < 2**53)
        spelled = column.cast(pl.Int64, strict=False).cast(pl.String)
        column = (
            column.cast(pl.String)
            .set(column.is_nan().fill_null(value=False), None)
            .zip_with(~whole.fill_null(value=False), spelled)
        )
    texts = column.cast(pl.String).str.strip_chars()
    return texts.set(texts.is_in(["", MISSING_LABEL]).fill_null(value=False), None)


def _categories(column: pl.Series, separator: str) -> pl.Series:
    if column.dtype in (pl.List, pl.Array) or column.dtype == pl.Null:
        lists = column.cast(pl.List(pl.String))
    else:
        lists = _text(column).str.split(separator)
    element = pl.element().str.strip_chars()
    known = lists.list.eval(element.filter(element != "").unique().sort())
    return known.set((known.list.len() == 0).fill_null(value=False), None)
