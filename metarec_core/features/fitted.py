"""What every fitted feature can do, and what fitting is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from metarec_core.schema import FeatureKind

FloatArray = npt.NDArray[np.float32]
Array = npt.NDArray[Any]

MISSING_LABEL = "(missing)"
"""What an imputed categorical cell holds; it encodes like a missing one."""


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How much detail fitting keeps, and its seed.

    Attributes:
        min_count: Categories in fewer training rows are folded into ``other``.
        max_values: Most categories that a feature keeps, the most frequent ones.
        text_dimensions: Most dimensions of a text.
        text_terms: Most terms that a text feature knows.
        text_separator: What stands between the terms of a text; None: terms are words.
        seed: Seed of the reduction of texts.
    """

    min_count: int = 2
    max_values: int = 200
    text_dimensions: int = 32
    text_terms: int = 5000
    text_separator: str | None = None
    seed: int = 0


class FittedFeature(Protocol):
    """A feature whose statistics were taken from training rows.

    A column ``<name>:missing`` or ``<name>:other`` is set only if training rows had such cells:
    what no training row showed, no learner can have learned, and the cell is encoded as the
    average of the training rows instead.
    """

    kind: ClassVar[FeatureKind]

    @property
    def name(self) -> str:
        """The feature."""
        ...

    @classmethod
    def fit(cls, name: str, column: pl.Series, settings: FitSettings) -> Self:
        """Take statistics of a training column of the kind's type."""
        ...

    def names(self) -> list[str]:
        """Names of the encoded columns, ``[F]``."""
        ...

    def encode(self, column: pl.Series) -> FloatArray:
        """Numbers for each row, ``[n, F]``, all finite."""
        ...

    def impute(self, column: pl.Series) -> list[pl.Series]:
        """The column without gaps and, for numbers, a flag of where they were."""
        ...

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Everything that was learned, as plain JSON and as named arrays."""
        ...

    @classmethod
    def from_state(cls, name: str, settings: dict[str, Any], arrays: dict[str, Array]) -> Self:
        """The feature that :meth:`state` was taken from."""
        ...


def missing_name(name: str) -> str:
    """Name of the column that flags missing cells of a feature."""
    return f"{name}:missing"


def frequent_values(values: pl.Series, settings: FitSettings) -> list[str]:
    """Values that occur often enough, the most frequent ``max_values``, sorted.

    Args:
        values: Strings, one for each occurrence; nulls do not count.
        settings: What is often enough.
    """
    counted = (
        values.drop_nulls()
        .alias("value")
        .value_counts(name="count")
        .filter(pl.col("count") >= settings.min_count)
        .sort(["count", "value"], descending=[True, False])
        .head(settings.max_values)
    )
    return sorted(counted["value"].to_list())


def codes_of(values: pl.Series, vocabulary: list[str]) -> npt.NDArray[np.int64]:
    """Place of each value in a vocabulary, ``[n]``; -1 for others and for nulls."""
    if not vocabulary:
        return np.full(len(values), -1, dtype=np.int64)
    places = values.replace_strict(
        vocabulary, list(range(len(vocabulary))), default=-1, return_dtype=pl.Int64
    )
    return places.fill_null(-1).to_numpy().astype(np.int64)
