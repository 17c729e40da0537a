"""Descriptors: where a dataset's tables are, what their columns mean, how values are judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml
from pydantic import Field, PrivateAttr, model_validator

from metarec_core.episodes.types import ValueScale
from metarec_core.errors import DatasetError
from metarec_core.features.spec import FeatureSpec
from metarec_core.ingest.hints import did_you_mean, listing
from metarec_core.ingest.source import Fetch, Freshness, Source, Values
from metarec_core.schema import Columns, Feedback, Table
from metarec_core.section import Section

_DATASETS = Path(__file__).parent / "datasets"
_LEGAL_COLUMNS: dict[Table, tuple[str, ...]] = {
    Table.INTERACTIONS: (Columns.USER, Columns.ITEM, Columns.VALUE, Columns.TIME),
    Table.USERS: (Columns.USER,),
    Table.ITEMS: (Columns.ITEM, Columns.TITLE),
}


class DatasetDescriptor(Section):
    """A dataset: three sources, their meaning, and where the files can be had."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    """Short name; also the directory of the fetched files."""

    title: str = ""
    """Name for people."""

    licence: str = ""
    """What its owners allow."""

    feedback: Feedback
    """``explicit`` ratings or ``implicit`` events."""

    values: Values = Values()
    """Scale of the values."""

    timestamp_unit: Literal["seconds", "milliseconds", "iso"] = "seconds"
    """How times are written; ``iso`` without an offset means UTC."""

    freshness: Freshness = Freshness()
    """How old the newest interaction may be."""

    fetch: Fetch | None = None
    """Where the files can be downloaded; null: the user has them."""

    interactions: Source
    """Who did what."""

    users: Source | None = None
    """What is known of users."""

    items: Source | None = None
    """What is known of items."""

    _origin: Path | None = PrivateAttr(default=None)

    @property
    def origin(self) -> Path | None:
        """Directory of the descriptor's own file; None for a bundled or built one."""
        return self._origin

    def sources(self) -> dict[Table, Source]:
        """The sources that exist, interactions first."""
        named = {
            Table.INTERACTIONS: self.interactions,
            Table.USERS: self.users,
            Table.ITEMS: self.items,
        }
        return {table: source for table, source in named.items() if source is not None}

    def features(self, table: Table) -> dict[str, FeatureSpec]:
        """Features of a side table; none when it has no source."""
        source = self.sources().get(table)
        return dict(source.features) if source is not None else {}

    def scale(self) -> ValueScale:
        """What values mean, with the defaults of the feedback kind filled in."""
        values = self.values
        return ValueScale(
            feedback=self.feedback,
            minimum=0.0 if values.minimum is None else values.minimum,
            maximum=values.default_weight if values.maximum is None else values.maximum,
            relevant_from=0.0 if values.relevant_from is None else values.relevant_from,
        )

    @model_validator(mode="after")
    def _consistent(self) -> DatasetDescriptor:
        for table, source in self.sources().items():
            _check_columns(table, source, self.feedback)
        if self.interactions.features:
            raise ValueError("interactions have features; wanted them under users or items")
        self._check_values()
        return self

    def _check_values(self) -> None:
        values = self.values
        has_column = Columns.VALUE in self.interactions.columns
        if self.feedback is Feedback.EXPLICIT and None in (
            values.minimum,
            values.maximum,
            values.relevant_from,
        ):
            raise ValueError(
                "values lacks minimum, maximum or relevant_from; explicit feedback needs the three"
            )
        if has_column and values.maximum is None:
            raise ValueError("values lacks maximum; a value column needs it")
        scale = self.scale()
        if not scale.minimum <= scale.relevant_from <= scale.maximum:
            raise ValueError(
                f"values has minimum {scale.minimum}, relevant_from {scale.relevant_from}, "
                f"maximum {scale.maximum}; wanted them in rising order"
            )


def bundled_descriptors() -> dict[str, Path]:
    """Descriptors that come with metarec, by name."""
    return {path.stem: path for path in sorted(_DATASETS.glob("*.yaml"))}


def load_descriptor(name_or_path: str | Path) -> DatasetDescriptor:
    """Read a bundled descriptor by name, or one's own by path.

    Raises:
        DatasetError: If there is none, it is not YAML, or a field is wrong; the message names
            the file and the field.
    """
    bundled = bundled_descriptors()
    own = Path(name_or_path).expanduser()
    path = bundled.get(str(name_or_path), own)
    if not path.is_file():
        raise DatasetError(
            f"dataset {str(name_or_path)!r}",
            found="neither a bundled dataset nor a descriptor file of that name",
            wanted=f"one of {listing(bundled)}, or the path of a descriptor in YAML",
            next_step=f"{did_you_mean(str(name_or_path), bundled)}correct dataset.name, or write "
            f"a descriptor after the example {bundled['ml-latest-small']}",
        )
    descriptor = _parse(path)
    if path == own:
        descriptor._origin = path.absolute().parent
    return descriptor


def _parse(path: Path) -> DatasetDescriptor:
    try:
        tree: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DatasetError(
            f"descriptor {path}",
            found=f"{type(error).__name__}: {' '.join(str(error).split())}",
            wanted="a readable YAML file",
            next_step="correct the file at the place named",
        ) from error
    try:
        return DatasetDescriptor.model_validate(tree)
    except pydantic.ValidationError as error:
        raise _as_dataset_error(path, error.errors(include_url=False)[0]) from error


def _as_dataset_error(path: Path, detail: Any) -> DatasetError:
    place = [str(part) for part in detail["loc"]]
    where = ".".join(place) or "the whole"
    subject = f"descriptor {path}, field {where}"
    if detail["type"] == "extra_forbidden":
        legal = _fields_at(place[:-1])
        return DatasetError(
            subject,
            found="a name that does not exist",
            wanted=f"one of {listing(legal)}",
            next_step=f"{did_you_mean(place[-1], legal)}rename or remove it",
        )
    if detail["type"] == "missing":
        return DatasetError(
            subject, found="nothing", wanted="a value", next_step=f"add '{place[-1]}:' there"
        )
    found = "a contradiction" if detail["type"] == "value_error" else repr(detail.get("input"))
    return DatasetError(
        subject,
        found=found if len(found) <= 200 else f"{found[:200]}...",
        wanted=str(detail["msg"]).removeprefix("Value error, "),
        next_step="correct the field and run again",
    )


def _fields_at(place: list[str]) -> list[str]:
    by_name: dict[str, type[Section]] = {
        "values": Values,
        "freshness": Freshness,
        "fetch": Fetch,
        **{table.value: Source for table in _LEGAL_COLUMNS},
    }
    if len(place) == 3:
        model: type[Section] = FeatureSpec
    else:
        model = by_name[place[0]] if place else DatasetDescriptor
    return list(model.model_fields)


def _check_columns(table: Table, source: Source, feedback: Feedback) -> None:
    legal = _LEGAL_COLUMNS[table]
    required = [name for name in legal if name in (Columns.USER, Columns.ITEM)]
    if table is Table.INTERACTIONS and feedback is Feedback.EXPLICIT:
        required.append(Columns.VALUE)
    unknown = sorted(set(source.columns) - set(legal))
    lacking = [name for name in required if name not in source.columns]
    if unknown or lacking:
        parts = [f"unknown {unknown}"] if unknown else []
        parts += [f"no {lacking}"] if lacking else []
        raise ValueError(
            f"{table}.columns has {' and '.join(parts)}; wanted keys out of {list(legal)}, "
            f"among them {required}"
        )
