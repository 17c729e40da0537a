"""Features of users or items as numbers, learned from training rows, saved without pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from metarec_core.errors import ModelError
from metarec_core.features.categorical import Categorical
from metarec_core.features.coerce import coerced
from metarec_core.features.fitted import Array, FitSettings, FittedFeature, FloatArray
from metarec_core.features.multi import MultiValued
from metarec_core.features.numeric import Numeric
from metarec_core.features.spec import FeatureSpec
from metarec_core.features.text import Text
from metarec_core.schema import FeatureKind

_KINDS: dict[FeatureKind, type[FittedFeature]] = {
    FeatureKind.CATEGORICAL: Categorical,
    FeatureKind.NUMERIC: Numeric,
    FeatureKind.MULTI: MultiValued,
    FeatureKind.TEXT: Text,
}


def _own(settings: FitSettings, spec: FeatureSpec) -> FitSettings:
    return replace(
        settings,
        text_dimensions=spec.dimensions or settings.text_dimensions,
        text_separator=spec.separator if spec.terms == "parts" else None,
    )


class FeatureEncoder:
    """Encodes and imputes the features of a table.

    Unknown categories, missing cells and missing columns are legal in every frame, and so are
    numbers written as text and lists written with the separator; the output is always finite.

    Args:
        specs: Kind and separator of each feature, in order.
        features: The same features, fitted.
    """

    def __init__(self, specs: Mapping[str, FeatureSpec], features: Sequence[FittedFeature]) -> None:
        self.specs = dict(specs)
        self._features = list(features)

    @classmethod
    def fit(
        cls,
        frame: pl.DataFrame,
        specs: Mapping[str, FeatureSpec],
        seed: int,
        detail: FitSettings | None = None,
    ) -> FeatureEncoder:
        """Learn vocabularies and statistics from training rows.

        Args:
            frame: Training rows only; columns as named in ``specs``, absent ones are missing.
            specs: What each feature is.
            seed: Seed of the reduction of texts.
            detail: How much detail is kept; None for the defaults. Its seed is not used.
        """
        settings = replace(detail or FitSettings(), seed=seed)
        fitted = [
            _KINDS[spec.kind].fit(name, coerced(frame, name, spec), _own(settings, spec))
            for name, spec in specs.items()
        ]
        return cls(specs, fitted)

    @property
    def names(self) -> list[str]:
        """Names of the encoded columns, ``[F]``, such as ``genres=Comedy`` or ``age:missing``."""
        return [name for feature in self._features for name in feature.names()]

    def encode(self, frame: pl.DataFrame) -> FloatArray:
        """Numbers for each row of ``frame``, ``[n, F]`` float32, none of them NaN or infinite.

        An imputed frame encodes like the frame it was made from.

        Raises:
            ModelError: If a column has a type that cannot be such a feature.
        """
        if not self._features:
            return np.zeros((frame.height, 0), dtype=np.float32)
        return np.concatenate(
            [feature.encode(self._column(frame, feature)) for feature in self._features], axis=1
        )

    def impute(self, frame: pl.DataFrame) -> pl.DataFrame:
        """``frame`` with every feature present and without gaps.

        Numbers get the training median and a flag ``<name>:missing``, categories ``(missing)``,
        lists and texts become empty. Other columns stay.

        Raises:
            ModelError: If a column has a type that cannot be such a feature.
        """
        filled = [
            series
            for feature in self._features
            for series in feature.impute(self._column(frame, feature))
        ]
        return frame.with_columns(filled)

    def missing(self, frame: pl.DataFrame) -> dict[str, int]:
        """How many cells of each feature :meth:`impute` fills."""
        return {
            feature.name: self._column(frame, feature).null_count() for feature in self._features
        }

    def _column(self, frame: pl.DataFrame, feature: FittedFeature) -> pl.Series:
        return coerced(frame, feature.name, self.specs[feature.name])

    def save(self, directory: Path, stem: str) -> None:
        """Write ``<stem>.json`` and, where there are arrays, ``<stem>.safetensors``."""
        entries: list[dict[str, Any]] = []
        arrays: dict[str, Array] = {}
        for feature in self._features:
            settings, own = feature.state()
            arrays |= {f"{feature.name}.{key}": array for key, array in own.items()}
            spec = self.specs[feature.name].model_dump(mode="json")
            entries.append(
                {"name": feature.name, "spec": spec, "state": settings, "arrays": sorted(own)}
            )
        text = json.dumps({"features": entries}, indent=2, ensure_ascii=False)
        (directory / f"{stem}.json").write_text(text, encoding="utf-8")
        if arrays:
            save_file(arrays, directory / f"{stem}.safetensors")

    @classmethod
    def load(cls, directory: Path, stem: str) -> FeatureEncoder:
        """Read what :meth:`save` wrote.

        Raises:
            ModelError: If a file is missing or damaged.
        """
        path = directory / f"{stem}.json"
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))["features"]
            needed = any(entry["arrays"] for entry in entries)
            arrays = load_file(directory / f"{stem}.safetensors") if needed else {}
            specs = {entry["name"]: FeatureSpec(**entry["spec"]) for entry in entries}
            fitted = [
                _KINDS[specs[entry["name"]].kind].from_state(
                    entry["name"],
                    entry["state"],
                    {key: arrays[f"{entry['name']}.{key}"] for key in entry["arrays"]},
                )
                for entry in entries
            ]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ModelError(
                f"feature encoder {path}",
                found=f"{type(error).__name__}: {error}",
                wanted=f"{stem}.json and {stem}.safetensors as they were saved",
                next_step="build the features, or pull the model, again",
            ) from error
        return cls(specs, fitted)
