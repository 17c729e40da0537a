"""Several categories a row: multi-hot over a vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl

from metarec_core.features.fitted import (
    Array,
    FitSettings,
    FloatArray,
    codes_of,
    frequent_values,
    missing_name,
)
from metarec_core.schema import FeatureKind


@dataclass(frozen=True, slots=True)
class MultiValued:
    """Columns ``<name>=<value>``, then ``<name>:other`` and ``<name>:missing``.

    Attributes:
        name: The feature.
        vocabulary: Values with a column of their own, ``[V]``, sorted.
        average: Mean of the encoded training rows, ``[V + 2]`` float32.
    """

    kind: ClassVar[FeatureKind] = FeatureKind.MULTI
    name: str
    vocabulary: list[str]
    average: FloatArray

    @classmethod
    def fit(cls, name: str, column: pl.Series, settings: FitSettings) -> Self:
        """Keep the frequent values of a training column of lists of strings."""
        vocabulary = frequent_values(column.list.unique().explode(), settings)
        plain = cls(name, vocabulary, np.ones(len(vocabulary) + 2, dtype=np.float32))
        rows = plain.encode(column)
        average = rows.mean(axis=0, dtype=np.float64) if len(rows) else np.zeros(rows.shape[1])
        return cls(name, vocabulary, average.astype(np.float32))

    def names(self) -> list[str]:
        """Names of the encoded columns, ``[V + 2]``."""
        values = [f"{self.name}={value}" for value in self.vocabulary]
        return [*values, f"{self.name}:other", missing_name(self.name)]

    def encode(self, column: pl.Series) -> FloatArray:
        """Multi-hot rows, ``[n, V + 2]``."""
        other, missing = len(self.vocabulary), len(self.vocabulary) + 1
        encoded = np.zeros((len(column), missing + 1), dtype=np.float32)
        empty = column.is_null().to_numpy()
        encoded[empty] = self.average
        if self.average[missing] > 0.0:
            encoded[empty] = 0.0
            encoded[empty, missing] = 1.0
        counts = column.list.len().fill_null(0).to_numpy()
        rows = np.repeat(np.arange(len(column)), counts)
        codes = codes_of(column.filter(~column.is_null()).explode(), self.vocabulary)
        codes[codes < 0] = other
        seen = (codes != other) | (self.average[other] > 0.0)
        encoded[rows[seen], codes[seen]] = 1.0
        return encoded

    def impute(self, column: pl.Series) -> list[pl.Series]:
        """The column with empty lists in its gaps."""
        return [column.fill_null(pl.Series([[]], dtype=column.dtype))]

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Vocabulary as JSON, averages as an array."""
        return {"vocabulary": self.vocabulary}, {"average": self.average}

    @classmethod
    def from_state(cls, name: str, settings: dict[str, Any], arrays: dict[str, Array]) -> Self:
        """The feature that :meth:`state` was taken from."""
        return cls(name, list(settings["vocabulary"]), arrays["average"])
