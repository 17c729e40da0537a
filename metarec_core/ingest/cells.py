"""SQL expressions that turn the text of a cell into a typed value, or tell that it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metarec_core.features.spec import FeatureSpec
from metarec_core.ingest.database import identifier, literal, trimmed
from metarec_core.ingest.descriptor import DatasetDescriptor
from metarec_core.ingest.layout import Layout
from metarec_core.ingest.source import Source
from metarec_core.schema import Columns, FeatureKind, Table

# Whole numbers beyond 2^53 are not exact as doubles, so an id there keeps its own spelling.
_EXACT = 2**53


@dataclass(frozen=True, slots=True)
class Cell:
    """One column of a typed table, made in two steps: file to text, text to value.

    Attributes:
        name: Our name of the column.
        column: Its name in the file; empty for a column that the file lacks.
        text: SQL of the cell as written, over the file's columns by place; null where it is not
            known.
        typed: SQL of the value, over the column :attr:`written`.
        wanted: What the text should have been, for messages; None where any text will do.
    """

    name: str
    column: str
    text: str
    typed: str
    wanted: str | None = None

    @property
    def written(self) -> str:
        """Name of the column that holds the text between the steps."""
        return _written(self.name)


def cells(
    table: Table, source: Source, layout: Layout, descriptor: DatasetDescriptor
) -> list[Cell]:
    """The cells of a source: key columns in the order of the table, then features."""
    made = {name: _key(name, source, layout, descriptor) for name in source.columns}
    if table is Table.INTERACTIONS:
        weight = repr(float(descriptor.values.default_weight))
        made.setdefault(Columns.VALUE, _constant(Columns.VALUE, f"CAST({weight} AS DOUBLE)"))
        made.setdefault(Columns.TIME, _constant(Columns.TIME, "CAST(NULL AS BIGINT)"))
    if table is Table.ITEMS:
        made.setdefault(Columns.TITLE, _constant(Columns.TITLE, "CAST(NULL AS VARCHAR)"))
    order = (Columns.USER, Columns.ITEM, Columns.TITLE, Columns.VALUE, Columns.TIME)
    keys = [made[name] for name in order if name in made]
    return keys + [
        _feature(name, spec, layout, source.null_values) for name, spec in source.features.items()
    ]


def _key(name: str, source: Source, layout: Layout, descriptor: DatasetDescriptor) -> Cell:
    column = source.columns[name]
    kind = layout.type_of(column)
    text = _known(_spelled(layout.place_of(column), kind), source.null_values)
    if name == Columns.VALUE:
        return _number(name, column, text)
    if name == Columns.TIME:
        # A column that is typed as a time in Parquet needs no unit.
        dated = kind.startswith(("TIMESTAMP", "DATE"))
        return _time(column, text, "iso" if dated else descriptor.timestamp_unit)
    return Cell(name, column, text, _written(name))


def _constant(name: str, value: str) -> Cell:
    return Cell(name, "", "CAST(NULL AS VARCHAR)", value)


def _written(name: str) -> str:
    # No feature has such a name: the descriptor allows letters, digits and underscores.
    return identifier(f"{name}:written")


def _spelled(place: str, kind: str) -> str:
    if kind == "VARCHAR":
        return place
    if kind in ("DOUBLE", "FLOAT"):
        # Writers turn a column of whole numbers with gaps into floats, and gaps into NaN:
        # 7.0 is the id '7'.
        return (
            f"(CASE WHEN isnan({place}) THEN NULL "
            f"WHEN abs({place}) < {_EXACT} AND {place} = floor({place}) "
            f"THEN CAST(CAST({place} AS BIGINT) AS VARCHAR) ELSE CAST({place} AS VARCHAR) END)"
        )
    return f"CAST({place} AS VARCHAR)"


def _known(spelled: str, null_values: Sequence[str]) -> str:
    unknown = ", ".join(literal(value) for value in ("", *null_values))
    return f"(CASE WHEN {trimmed(spelled)} IN ({unknown}) THEN NULL ELSE {spelled} END)"


def _number(name: str, column: str, text: str) -> Cell:
    number = f"TRY_CAST({trimmed(_written(name))} AS DOUBLE)"
    return Cell(name, column, text, f"if(isfinite({number}), {number}, NULL)", "a finite number")


def _time(column: str, text: str, unit: str) -> Cell:
    written = trimmed(_written(Columns.TIME))
    if unit == "iso":
        moment = f"TRY_CAST({written} AS TIMESTAMPTZ)"
        typed = f"if(isfinite({moment}), CAST(floor(epoch({moment})) AS BIGINT), NULL)"
        return Cell(Columns.TIME, column, text, typed, "a date and time as in ISO 8601")
    number = f"TRY_CAST({written} AS DOUBLE) / {1000 if unit == 'milliseconds' else 1}"
    typed = f"if(isfinite({number}), TRY_CAST(floor({number}) AS BIGINT), NULL)"
    return Cell(Columns.TIME, column, text, typed, f"a number of {unit} since 1970")


def _feature(name: str, spec: FeatureSpec, layout: Layout, null_values: Sequence[str]) -> Cell:
    place, kind = layout.place_of(spec.column), layout.type_of(spec.column)
    if spec.kind is FeatureKind.MULTI and kind.endswith("[]"):
        text = f"CAST({place} AS VARCHAR[])"
        return Cell(name, spec.column, text, _set_of(_written(name), null_values))
    text = _known(_spelled(place, kind), null_values)
    if spec.pattern is not None:
        text = f"nullif(regexp_extract({text}, {literal(spec.pattern)}, 1), '')"
    if spec.kind is FeatureKind.NUMERIC:
        return _number(name, spec.column, text)
    if spec.kind is FeatureKind.MULTI:
        parts = f"string_split({_written(name)}, {literal(spec.separator)})"
        return Cell(name, spec.column, text, _set_of(parts, null_values))
    return Cell(name, spec.column, text, _written(name))


def _set_of(parts: str, null_values: Sequence[str]) -> str:
    # Categories in one cell are a set: sorted, each once, and null when there is none.
    unknown = ", ".join(literal(value) for value in ("", *null_values))
    bare = f"list_transform({parts}, lambda part: {trimmed('part')})"
    known = f"list_filter({bare}, lambda part: part NOT IN ({unknown}))"
    return f"nullif(list_sort(list_distinct({known})), CAST([] AS VARCHAR[]))"
