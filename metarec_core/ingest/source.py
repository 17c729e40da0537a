"""The parts of a descriptor: one table's file, the scale of values, a wheel to fetch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from metarec_core.features.spec import FeatureSpec
from metarec_core.schema import Columns
from metarec_core.section import Section

_RESERVED = frozenset(
    value for name, value in vars(Columns).items() if not name.startswith("_")
) | {"split"}

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
FeatureName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Values(Section):
    """Scale of the values of interactions; what is left out follows from the feedback kind."""

    minimum: float | None = Field(None, allow_inf_nan=False)
    """Smallest legal value; ``implicit``: 0 when left out."""

    maximum: float | None = Field(None, allow_inf_nan=False)
    """Largest legal value; ``implicit`` without a value column: the default weight."""

    relevant_from: float | None = Field(None, allow_inf_nan=False)
    """Values from here on are relevant; ``implicit``: 0 when left out."""

    default_weight: float = Field(1.0, gt=0.0, allow_inf_nan=False)
    """Weight of an implicit interaction when no column holds one."""


class Freshness(Section):
    """How old the newest interaction may be."""

    max_age_days: float | None = Field(None, gt=0.0)
    """Days before the run date; null turns the check off."""


class Fetch(Section):
    """A wheel that carries the files as data; it is downloaded, never installed."""

    wheel: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.!+_-]+$")
    """Exact requirement, such as ``recbole==1.2.1``."""

    sha256: Sha256
    """SHA-256 of the wheel."""

    root: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._/-]*$")
    """Folder inside the wheel that holds the files."""

    files: dict[FileName, Sha256] = Field(min_length=1)
    """SHA-256 of each file to take out."""


class Source(Section):
    """One table: a file, how it is written, and what its columns are called."""

    path: str = Field(min_length=1)
    """File, relative to the dataset's directory."""

    format: Literal["csv", "parquet"] = "csv"
    """How it is written; ``csv`` is any delimited text."""

    delimiter: str = Field(",", min_length=1, max_length=4)
    """What stands between cells; several characters (``::``) are legal."""

    quote: str = Field('"', max_length=1)
    """What may enclose a cell; empty for files where quotes are ordinary characters."""

    header: bool = True
    """Whether the first line names the columns."""

    names: tuple[str, ...] = ()
    """Names of the columns, all of them in order, of a file without header."""

    encoding: Literal["utf-8", "latin-1", "utf-16"] = "utf-8"
    """Encoding of a text file."""

    null_values: tuple[str, ...] = ()
    """Cell texts that mean 'not known', beside the blank one."""

    columns: dict[str, str]
    """Our name of a column: its name in the file."""

    features: dict[FeatureName, FeatureSpec] = Field(default_factory=dict)
    """Features, by the name they get."""

    @model_validator(mode="after")
    def _consistent(self) -> Source:
        if self.format == "csv" and not self.header and not self.names:
            raise ValueError("header is false and 'names' is empty; wanted every column's name")
        if self.names and (self.header or self.format == "parquet"):
            raise ValueError("'names' is only for text files with header: false")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"names {list(self.names)} repeat one; wanted each once")
        clash = sorted(name for name in self.features if name.casefold() in _RESERVED)
        if clash:
            raise ValueError(f"features {clash} have reserved names; wanted others")
        folded = [name.casefold() for name in self.features]
        if len(set(folded)) != len(folded):
            raise ValueError("two features differ only in upper and lower case; wanted others")
        return self
