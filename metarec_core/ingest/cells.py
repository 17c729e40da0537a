"""SQL expressions that turn the text of a cell into a typed value, or tell that it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metarec_core.features.spec import FeatureSpec
from metarec_core.ingest.database import BLANKS, identifier, literal
from metarec_core.ingest.descriptor import DatasetDescriptor, Source
from metarec_core.ingest.layout import Layout
from metarec_core.schema import Columns, FeatureKind, Table

_BLANKS = literal(BLANKS)
# Whole numbers beyond 2^53 are not exact as doubles, so an id there keeps its own spelling.
_EXACT = 2**53


@dataclass(frozen=True, slots=True)
class Cell:
    """One column of a typed table.

    Attributes:
        name: Our name of the column.
        column: Its name in the file.
        text: SQL of the cell as written, null where it is not known.
        typed: SQL of the value, null where it is not known or cannot be parsed.
        wanted: What the text should have been, for messages; None where any text will do.
    """

    name: str
    column: str
    text: str
    typed: str
    wanted: str | None = None

    @property
    def unparsable(self) -> str:
        """SQL that is true where there is a text and no value can be made of it."""
        return f"({self.text} IS NOT NULL AND {self.typed} IS NULL)"


def cells(
    table: Table, source: Source, layout: Layout, descriptor: DatasetDescriptor
) -> list[Cell]:
    """The cells of a source, ids first, then features in the descriptor's order.

    The expressions read columns that are named as in the file.
    """
    made = []
    for name, column in source.columns.items():
        text = _text(column, layout.type_of(column), source.null_values)
        if name == Columns.VALUE:
            made.append(_number(name, column, text))
        elif name == Columns.TIME:
            made.append(_time(column, text, layout.type_of(column), descriptor.timestamp_unit))
        else:
            made.append(Cell(name, column, text, text))
    for name, spec in source.features.items():
        made.append(_feature(name, spec, layout.type_of(spec.column), source.null_values))
    if table is Table.ITEMS and Columns.TITLE not in source.columns:
        made.append(Cell(Columns.TITLE, "", "NULL", "CAST(NULL AS VARCHAR)"))
    if table is Table.INTERACTIONS:
        if Columns.VALUE not in source.columns:
            weight = repr(float(descriptor.values.default_weight))
            made.append(Cell(Columns.VALUE, "", "NULL", f"CAST({weight} AS DOUBLE)"))
        if Columns.TIME not in source.columns:
            made.append(Cell(Columns.TIME, "", "NULL", "CAST(NULL AS BIGINT)"))
    return made


def _trimmed(text: str) -> str:
    return f"trim({text}, {_BLANKS})"


def _text(column: str, kind: str, null_values: Sequence[str]) -> str:
    raw = _spelled(column, kind)
    unknown = ", ".join(literal(value) for value in ("", *null_values))
    return f"(CASE WHEN {_trimmed(raw)} IN ({unknown}) THEN NULL ELSE {raw} END)"


def _spelled(column: str, kind: str) -> str:
    name = identifier(column)
    if kind == "VARCHAR":
        return name
    if kind in ("DOUBLE", "FLOAT"):
        # Writers turn a column of whole numbers with gaps into floats, and gaps into NaN:
        # 7.0 is the id '7'.
        return (
            f"(CASE WHEN isnan({name}) THEN NULL "
            f"WHEN abs({name}) < {_EXACT} AND {name} = floor({name}) "
            f"THEN CAST(CAST({name} AS BIGINT) AS VARCHAR) ELSE CAST({name} AS VARCHAR) END)"
        )
    return f"CAST({name} AS VARCHAR)"


def _number(name: str, column: str, text: str) -> Cell:
    number = f"TRY_CAST({_trimmed(text)} AS DOUBLE)"
    typed = f"(CASE WHEN isfinite({number}) THEN {number} END)"
    return Cell(name, column, text, typed, "a finite number")


def _time(column: str, text: str, kind: str, unit: str) -> Cell:
    # A column that is typed as a time in Parquet needs no unit.
    if unit == "iso" or kind.startswith(("TIMESTAMP", "DATE")):
        moment = f"TRY_CAST({_trimmed(text)} AS TIMESTAMPTZ)"
        typed = f"(CASE WHEN isfinite({moment}) THEN CAST(floor(epoch({moment})) AS BIGINT) END)"
        return Cell(Columns.TIME, column, text, typed, "a date and time as in ISO 8601")
    divisor = 1000 if unit == "milliseconds" else 1
    number = f"TRY_CAST({_trimmed(text)} AS DOUBLE)"
    typed = (
        f"(CASE WHEN isfinite({number}) THEN TRY_CAST(floor({number} / {divisor}) AS BIGINT) END)"
    )
    return Cell(Columns.TIME, column, text, typed, f"a number of {unit} since 1970")


def _feature(name: str, spec: FeatureSpec, kind: str, null_values: Sequence[str]) -> Cell:
    if spec.kind is FeatureKind.MULTI and kind.endswith("[]"):
        parts = f"CAST({identifier(spec.column)} AS VARCHAR[])"
        return Cell(name, spec.column, "NULL", _set_of(parts, null_values))
    text = _text(spec.column, kind, null_values)
    if spec.pattern is not None:
        text = f"nullif(regexp_extract({text}, {literal(spec.pattern)}, 1), '')"
    if spec.kind is FeatureKind.NUMERIC:
        return _number(name, spec.column, text)
    if spec.kind is FeatureKind.MULTI:
        parts = f"string_split({text}, {literal(spec.separator)})"
        return Cell(name, spec.column, "NULL", _set_of(parts, null_values))
    return Cell(name, spec.column, text, text)


def _set_of(parts: str, null_values: Sequence[str]) -> str:
    # Categories in one cell are a set: sorted, each once, and null when there is none.
    unknown = ", ".join(literal(value) for value in ("", *null_values))
    trimmed = f"list_transform({parts}, lambda part: {_trimmed('part')})"
    known = f"list_filter({trimmed}, lambda part: part NOT IN ({unknown}))"
    unique = f"list_sort(list_distinct({known}))"
    return f"(CASE WHEN len({unique}) > 0 THEN {unique} END)"
