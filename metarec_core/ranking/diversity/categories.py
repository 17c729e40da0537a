"""A named feature of the catalogue as shares of categories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl

from metarec_core.episodes.types import FloatArray
from metarec_core.errors import ConfigError
from metarec_core.features.fitted import MISSING_LABEL
from metarec_core.features.spec import FeatureSpec
from metarec_core.schema import FeatureKind

MOST_CATEGORIES = 256
"""Categories kept of a feature, the most frequent ones; rarer values count as no category."""

_KINDS = (FeatureKind.MULTI, FeatureKind.CATEGORICAL)


@dataclass(frozen=True, slots=True)
class Categories:
    """Which categories each item belongs to.

    Attributes:
        names: Of the categories, ``C`` of them.
        shares: ``[I, C]`` float32: an item in ``n`` categories has ``1 / n`` in each; a row of 0
            for an item in none.
    """

    names: tuple[str, ...]
    shares: FloatArray

    @classmethod
    def none(cls, n_items: int) -> Self:
        """A catalogue without categories."""
        return cls((), np.zeros((n_items, 0), dtype=np.float32))

    @classmethod
    def of(
        cls, items: pl.DataFrame, specs: Mapping[str, FeatureSpec], feature: str | None = None
    ) -> Self:
        """Categories from the features stage's imputed table of items.

        Args:
            items: In catalogue order, one column a feature: strings for a ``categorical`` one,
                lists of strings for a ``multi`` one.
            specs: The features and their kinds.
            feature: Name of the feature; None for the first of those kinds.

        Returns:
            Without categories where ``feature`` is None and no feature is of those kinds.

        Raises:
            ConfigError: If there is no such feature of those kinds.
        """
        fit = [name for name, spec in specs.items() if spec.kind in _KINDS]
        if feature is None and not fit:
            return cls.none(len(items))
        name = fit[0] if feature is None else feature
        if name not in fit:
            raise ConfigError(
                "recommend.diversity.category",
                found=repr(feature),
                wanted=f"an item feature of kind multi or categorical: {', '.join(fit) or 'none'}",
                next_step="name one of those, or describe the column in the dataset's descriptor "
                "under items.features",
            )
        column = items[name]
        if column.dtype != pl.List:
            column = column.cast(pl.String).reshape((len(column), 1)).arr.to_list()
        return cls.of_lists(column)

    @classmethod
    def of_lists(cls, values: pl.Series) -> Self:
        """Categories from a list of names for each item, ``[I]``; nulls, repeats do not count."""
        named = pl.DataFrame({"item": np.arange(len(values)), "name": values}).explode("name")
        named = named.drop_nulls().filter(pl.col("name") != MISSING_LABEL).unique()
        kept = (
            named["name"]
            .value_counts()
            .sort(["count", "name"], descending=[True, False])
            .head(MOST_CATEGORIES)["name"]
            .sort()
        )
        names = tuple(kept.to_list())
        shares = np.zeros((len(values), len(names)), dtype=np.float32)
        placed = named.join(
            pl.DataFrame({"name": kept, "place": np.arange(len(names))}), on="name", how="inner"
        )
        shares[placed["item"].to_numpy(), placed["place"].to_numpy()] = 1.0
        shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1.0)
        return cls(names, shares)
