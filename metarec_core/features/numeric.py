"""One number a row: median for gaps, standardised."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl

from metarec_core.features.fitted import Array, FitSettings, FloatArray, missing_name
from metarec_core.schema import FeatureKind

LARGEST_DEVIATION = 10.0
"""Standardised values are held within this many standard deviations."""


@dataclass(frozen=True, slots=True)
class Numeric:
    """Columns ``<name>`` (standardised) and ``<name>:missing``.

    Attributes:
        name: The feature.
        median: Of the training values; what gaps are filled with.
        mean: Of the training values.
        sd: Their standard deviation; 1 where they do not vary.
        flags_missing: Whether training rows had gaps.
    """

    kind: ClassVar[FeatureKind] = FeatureKind.NUMERIC
    name: str
    median: float
    mean: float
    sd: float
    flags_missing: bool

    @classmethod
    def fit(cls, name: str, column: pl.Series, settings: FitSettings) -> Self:  # noqa: ARG003 (fixed by the interface)
        """Take median, mean and standard deviation of a training column of doubles."""
        values = column.drop_nulls().to_numpy()
        flags_missing = len(values) < len(column)
        if len(values) == 0:
            return cls(name, 0.0, 0.0, 1.0, flags_missing)
        # Scaled by the largest value, squares of very large ones stay finite.
        largest = float(np.abs(values).max()) or 1.0
        scaled = values / largest
        sd = float(scaled.std()) * largest
        return cls(
            name,
            median=float(np.median(scaled)) * largest,
            mean=float(scaled.mean()) * largest,
            sd=sd if sd > 0.0 and math.isfinite(1.0 / sd) else 1.0,
            flags_missing=flags_missing,
        )

    def names(self) -> list[str]:
        """Names of the two encoded columns."""
        return [self.name, missing_name(self.name)]

    def encode(self, column: pl.Series) -> FloatArray:
        """Standardised value and flag, ``[n, 2]``."""
        values = column.fill_null(self.median).to_numpy()
        with np.errstate(over="ignore"):
            deviations = (values - self.mean) / self.sd
        encoded = np.zeros((len(column), 2), dtype=np.float32)
        encoded[:, 0] = deviations.clip(-LARGEST_DEVIATION, LARGEST_DEVIATION)
        if self.flags_missing:
            encoded[:, 1] = column.is_null().to_numpy()
        return encoded

    def impute(self, column: pl.Series) -> list[pl.Series]:
        """The column with the median in its gaps, and where they were."""
        flag = column.is_null().alias(missing_name(self.name))
        return [column.fill_null(self.median), flag]

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """The statistics as JSON; no arrays."""
        return {
            "median": self.median,
            "mean": self.mean,
            "sd": self.sd,
            "flags_missing": self.flags_missing,
        }, {}

    @classmethod
    def from_state(cls, name: str, settings: dict[str, Any], arrays: dict[str, Array]) -> Self:  # noqa: ARG003 (fixed by the interface)
        """The feature that :meth:`state` was taken from."""
        return cls(
            name,
            float(settings["median"]),
            float(settings["mean"]),
            float(settings["sd"]),
            bool(settings["flags_missing"]),
        )
