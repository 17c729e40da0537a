"""Named features of the catalogue: groups of items that people have a word for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl
import torch
from torch import Tensor

from metarec_core.errors import ModelError
from metarec_core.features.encoder import FeatureEncoder
from metarec_core.features.fitted import MISSING_LABEL, missing_name
from metarec_core.features.spec import FeatureSpec
from metarec_core.schema import FeatureKind

MIN_ITEMS = 5
"""Fewest items that make a group: the mean of fewer says little of a taste."""

MOST_VALUES = 200
"""Most groups of one feature, the largest ones."""

SCHEMA = pl.Schema(
    {
        "feature": pl.String(),
        "label": pl.String(),
        "items": pl.List(pl.Int64()),
        "columns": pl.List(pl.Int64()),
    }
)
"""One named feature a row: the feature of the descriptor, what its value is called, the catalogue
indices of the items that have it, and the encoded columns of content that stand for it. Bands of
numbers have items alone; a number as such, and what no word is known for, have columns alone."""

_YEARS = (1500, 2200)
_BANDS = (0.25, 0.5, 0.75)
_REMARK = r"\([^()]*\)"


@dataclass(frozen=True, slots=True)
class NamedFeatures:
    """What the items of a catalogue have in common, in words.

    Attributes:
        frame: ``SCHEMA``.
        n_items: Size of the catalogue.
    """

    frame: pl.DataFrame
    n_items: int

    @classmethod
    def of(
        cls,
        items: pl.DataFrame,
        specs: Mapping[str, FeatureSpec],
        columns: Sequence[str] = (),
        min_items: int = MIN_ITEMS,
    ) -> Self:
        """Name what the items have.

        Each value of categorical and multi-valued features and each part of a text that is made
        of parts, such as directors; decades of a number that counts years; quarters of the
        catalogue by any other number. Free text has no names.

        Args:
            items: Imputed items in catalogue order, a column a feature, as the features stage
                writes them.
            specs: What each feature is.
            columns: Names of the encoded columns of content, ``[Fi]``, as
                :attr:`FeatureEncoder.names` gives them; empty: none are to be named.
            min_items: Fewest items that make a group.
        """
        groups = pl.concat(
            [
                SCHEMA.to_frame().select("feature", "label", "items"),
                *(_groups(items, name, spec, min_items) for name, spec in specs.items()),
            ]
        )
        named = _columns(columns)
        frame = groups.join(named, on=["feature", "label"], how="full", coalesce=True)
        frame = frame.with_columns(pl.col("items", "columns").fill_null([]))
        # The order of a join is not promised.
        order = {name: place for place, name in enumerate(specs)}
        frame = frame.sort(
            pl.col("feature").replace_strict(order, return_dtype=pl.Int64, default=len(order)),
            pl.col("label"),
            nulls_last=True,
        )
        return cls(frame.select(SCHEMA.names()).cast(SCHEMA), len(items))

    @classmethod
    def from_stage(cls, features: Path, min_items: int = MIN_ITEMS) -> Self:
        """The named features of a features stage's output."""
        encoder = FeatureEncoder.load(features, "item_encoder")
        items = pl.read_parquet(features / "items.parquet")
        return cls.of(items, encoder.specs, encoder.names, min_items)

    @property
    def labels(self) -> pl.Series:
        """What each row is called, ``[G]``: its value, or the feature where it has none."""
        return self.frame.select(pl.coalesce("label", "feature").alias("label"))["label"]

    def spoken_of(self) -> pl.DataFrame:
        """``feature``, ``label`` and ``n_items`` of the groups, in the order of :meth:`means`."""
        n_items = pl.col("items").list.len().cast(pl.Int64).alias("n_items")
        return self._with_items().select("feature", "label", n_items)

    def means(self) -> Tensor:
        """Weights of the mean over each group of items, sparse ``[G', I]`` float64."""
        lists = self._with_items()["items"]
        counts = lists.list.len().to_numpy().astype(np.int64)
        rows = np.repeat(np.arange(len(counts)), counts)
        columns = lists.explode().to_numpy() if len(rows) else np.zeros(0, dtype=np.int64)
        indices = torch.from_numpy(np.stack([rows, columns.astype(np.int64)]))
        weights = torch.from_numpy(1.0 / counts[rows].astype(np.float64))
        size = (len(counts), self.n_items)
        return torch.sparse_coo_tensor(indices, weights, size, check_invariants=True).coalesce()

    def matrix(self) -> Tensor:
        """Which item is in which group, each group of the same total weight, ``[I, G']`` float64.

        Weights are ``1 / sqrt(n)``, so that having a rare feature in common makes items more alike.
        """
        means = self.means()
        weights = means.values().sqrt()
        shared = torch.sparse_coo_tensor(
            means.indices(), weights, means.shape, check_invariants=True
        )
        return shared.to_dense().mT

    def groups(self) -> Tensor | None:
        """Row of ``frame`` of each encoded column, ``[Fi]`` int64; None where none is known."""
        pairs = self.frame.select("columns").with_row_index("row").explode("columns").drop_nulls()
        if pairs.is_empty():
            return None
        ordered = pairs.sort("columns")
        return torch.from_numpy(ordered["row"].cast(pl.Int64).to_numpy().copy())

    def save(self, path: Path) -> None:
        """Write Parquet: the same features give the same bytes."""
        self.frame.write_parquet(path)

    @classmethod
    def load(cls, path: Path, n_items: int) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            ModelError: If the file holds something else, or items that the catalogue lacks.
        """
        frame = pl.read_parquet(path)
        highest = frame["items"].explode().max() if "items" in frame.columns else None
        if frame.schema != SCHEMA or (isinstance(highest, int) and highest >= n_items):
            raise ModelError(
                f"named features {path}",
                found=f"columns {dict(frame.schema)}, highest item {highest!r}",
                wanted=f"columns {dict(SCHEMA)}, items below {n_items}",
                next_step="fetch the model again from the registry, or train one with "
                "'metarec run'",
            )
        return cls(frame, n_items)

    def _with_items(self) -> pl.DataFrame:
        return self.frame.filter(pl.col("items").list.len() > 0)


def _groups(items: pl.DataFrame, name: str, spec: FeatureSpec, min_items: int) -> pl.DataFrame:
    rows = items.select(name).with_row_index("item").rename({name: "value"})
    if missing_name(name) in items.columns:
        rows = rows.filter(~items[missing_name(name)].cast(pl.Boolean))
    if spec.kind is FeatureKind.NUMERIC:
        rows = rows.with_columns(label=_bands(rows["value"].cast(pl.Float64)))
    elif spec.kind is FeatureKind.MULTI:
        rows = rows.explode("value").with_columns(label=pl.col("value"))
    elif spec.kind is FeatureKind.TEXT:
        parts = pl.col("value").str.replace_all(_REMARK, "").str.split(spec.separator)
        known = rows if spec.terms == "parts" else rows.clear()
        rows = known.with_columns(label=parts).explode("label")
        rows = rows.with_columns(pl.col("label").str.strip_chars())
    else:
        rows = rows.with_columns(label=pl.col("value"))
    found = (
        rows.filter(pl.col("label").is_not_null(), ~pl.col("label").is_in(["", MISSING_LABEL]))
        .unique(["label", "item"])
        .sort("item")
        .group_by("label")
        .agg(items=pl.col("item").cast(pl.Int64))
        .filter(pl.col("items").list.len() >= min_items)
        .sort(pl.col("items").list.len(), "label", descending=[True, False])
        .head(MOST_VALUES)
    )
    return found.select(pl.lit(name).alias("feature"), "label", "items")


def _bands(values: pl.Series) -> pl.Series:
    """What each number is called: a decade where it counts years, else a quarter of the items."""
    known = values.drop_nulls().drop_nans()
    if known.is_empty():
        return pl.repeat(None, len(values), dtype=pl.String(), eager=True)
    low, high = _YEARS
    whole = (known == known.round()).all()
    if whole and known.is_between(low, high).all():
        decades = (values / 10.0).floor().cast(pl.Int64) * 10
        return decades.cast(pl.String) + "s"
    edges = sorted({float(known.quantile(share) or 0.0) for share in _BANDS})
    names = list(_band_names(edges))
    places = np.searchsorted(edges, values.fill_null(np.nan).to_numpy(), side="left")
    named = pl.Series(names).gather(np.minimum(places, len(edges)))
    return named.set(values.is_null() | values.is_nan(), None)


def _band_names(edges: Sequence[float]) -> Iterator[str]:
    """Names of the bands between edges, each band closed above.

    >>> list(_band_names([90.0, 110.5]))
    ['up to 90', '90 to 110.5', 'over 110.5']
    """
    yield f"up to {edges[0]:g}"
    for left, right in pairwise(edges):
        yield f"{left:g} to {right:g}"
    yield f"over {edges[-1]:g}"


def _columns(names: Sequence[str]) -> pl.DataFrame:
    """Encoded columns of content by the feature and value that they stand for."""
    rows = []
    for place, name in enumerate(names):
        value = re.fullmatch(r"([^=:]+)=(.*)", name, flags=re.DOTALL)
        feature = value[1] if value else re.split(r":(?=[^:]*$)", name)[0]
        rows.append({"feature": feature, "label": value[2] if value else None, "columns": place})
    frame = pl.DataFrame(
        rows, schema={"feature": pl.String(), "label": pl.String(), "columns": pl.Int64()}
    )
    by_name = frame.group_by("feature", "label", maintain_order=True)
    return by_name.agg(pl.col("columns"))
