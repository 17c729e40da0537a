"""Columns of a caller's frame as typed series: pandas or polars, and whatever cells they hold."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import polars as pl


class PandasFrame(Protocol):
    """What is used of a pandas frame; pandas itself is never imported."""

    @property
    def columns(self) -> Iterable[Any]:
        """Column names."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, name: Any, /) -> Any: ...


Frame = pl.DataFrame | PandasFrame


def column_names(frame: Frame) -> list[str]:
    """Names of the columns, as text."""
    return [str(name) for name in frame.columns]


def cells(frame: Frame, name: str) -> pl.Series | list[Any]:
    """A column: a series where its type is known, otherwise Python values, None where missing."""
    if isinstance(frame, pl.DataFrame):
        series = frame[name]
        return series.to_list() if series.dtype == pl.Object else series
    column: Any = frame[name]
    if getattr(column.dtype, "kind", "O") in "iuf" and not column.isna().any():
        return pl.Series(column.to_numpy())
    missing = column.isna().tolist()
    return [None if gone else cell for cell, gone in zip(column.tolist(), missing, strict=True)]


def as_text(values: pl.Series | Sequence[Any]) -> pl.Series:
    """Ids and categories as strings; whole numbers lose their point, so that 1 and 1.0 are '1'.

    Empty strings and NaN become null.
    """
    if isinstance(values, pl.Series):
        if values.dtype.is_float():
            whole = values.cast(pl.Int64, strict=False)
            is_whole = (whole.cast(values.dtype) == values).fill_null(False)
            text = values.fill_nan(None).cast(pl.String)
            return whole.cast(pl.String).zip_with(is_whole, text)
        text = values.cast(pl.String)
    else:
        text = pl.Series([_text(value) for value in values], dtype=pl.String)
    return text.set(text == "", None)


def as_numbers(values: pl.Series | Sequence[Any]) -> pl.Series:
    """Numbers as Float64; null where a cell is missing or holds none."""
    if isinstance(values, pl.Series) and values.dtype.is_numeric():
        return values.cast(pl.Float64)
    return as_text(values).str.strip_chars().cast(pl.Float64, strict=False)


def as_lists(values: pl.Series | Sequence[Any], separator: str) -> pl.Series:
    """Multi-valued cells as lists of strings; a plain string is cut at ``separator``."""
    if isinstance(values, pl.Series) and not isinstance(values.dtype, pl.List | pl.Array):
        return as_text(values).str.split(separator)
    return pl.Series(
        [_texts(cell, separator) for cell in values], dtype=pl.List(pl.String), strict=True
    )


def _text(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
        number = float(value)
        if number != number:
            return None
        return str(int(number)) if number.is_integer() else str(value)
    return str(value)


def _texts(cell: object, separator: str) -> list[str] | None:
    if cell is None:
        return None
    if isinstance(cell, str):
        return cell.split(separator)
    if isinstance(cell, Iterable):
        return [text for value in cell if (text := _text(value)) is not None]
    text = _text(cell)
    return None if text is None else [text]
