"""What rules need to know of items: their categories, and since when they are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from metarec_core.episodes.types import IntArray
from metarec_core.errors import ConfigError
from metarec_core.features.fitted import MISSING_LABEL, missing_name
from metarec_core.ingest.hints import did_you_mean, listing
from metarec_core.ranking.rules.load import Rules
from metarec_core.schema import Columns

BoolArray = npt.NDArray[np.bool_]

MOST_CATEGORIES = 4096
"""Most values of a feature of categories."""

UNKNOWN_TIME = np.iinfo(np.int64).min
"""Time of an item of which nobody knows since when there is one."""

_EARLIEST, _LATEST = 1_000_000, 4_102_444_800
"""Seconds since 1970 that a feature may hold: years and days lie below, milliseconds beyond."""


@dataclass(frozen=True, slots=True)
class ItemCategories:
    """Categories of items.

    Attributes:
        names: ``C`` names, sorted.
        matrix: Which item has which, ``[I, C]``.
    """

    names: tuple[str, ...]
    matrix: BoolArray


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """What is known of the items of a catalogue.

    Attributes:
        categories: Of the feature that caps and quotas speak of; None if they speak of none.
        known_since: Seconds since 1970, ``[I]``, :data:`UNKNOWN_TIME` where that is not known;
            None if it is to be taken from the interactions.
    """

    categories: ItemCategories | None = None
    known_since: IntArray | None = None


def item_facts(rules: Rules, items: pl.DataFrame, catalogue: pl.DataFrame) -> ItemFacts:
    """Look up in a table of items what ``rules`` speak of.

    Args:
        rules: The rules.
        items: ``item_id`` and features, as the features stage imputes them, in any order.
        catalogue: ``item_id`` in catalogue order; items that the table lacks have no category
            and are of unknown age.

    Raises:
        ConfigError: If a feature does not exist, is of another kind, or holds impossible times.
    """
    document = rules.document
    wanted = [name for name in (document.categories, document.age_from) if name is not None]
    for name in wanted:
        features = [each for each in items.columns if each not in (Columns.ITEM, Columns.TITLE)]
        if name not in features:
            setting = "categories" if name == document.categories else "age_from"
            raise ConfigError(
                f"{rules.name}, setting {setting}",
                found=repr(name),
                wanted=f"an item feature: {listing(features)}",
                next_step=f"{did_you_mean(name, features)}name a feature that the dataset's "
                "descriptor gives to items",
            )
    flags = [missing_name(name) for name in wanted if missing_name(name) in items.columns]
    aligned = catalogue.select(Columns.ITEM).join(
        items.select(Columns.ITEM, *dict.fromkeys([*wanted, *flags])),
        on=Columns.ITEM,
        how="left",
        maintain_order="left",
    )
    categories = known_since = None
    if document.categories is not None:
        subject = f"{rules.name}, setting categories"
        categories = item_categories(aligned[document.categories], subject)
    if document.age_from is not None:
        known_since = _times(aligned, document.age_from, f"{rules.name}, setting age_from")
    return ItemFacts(categories, known_since)


def item_categories(column: pl.Series, subject: str = "item categories") -> ItemCategories:
    """Categories of a feature's column, one row an item.

    Args:
        column: ``List(String)`` or ``String``; null, an empty list and :data:`MISSING_LABEL`
            mean no category.
        subject: What messages call the column.

    Raises:
        ConfigError: If the column is of another type or has more than :data:`MOST_CATEGORIES`
            values.
    """
    if column.dtype not in (pl.String, pl.List(pl.String)):
        raise ConfigError(
            subject,
            found=f"feature {column.name!r} of type {column.dtype}",
            wanted="a feature of kind multi or categorical",
            next_step="name such a feature",
        )
    lists = column if column.dtype == pl.List else column.reshape((-1, 1)).arr.to_list()
    counts = lists.list.len().fill_null(0).to_numpy()
    rows = np.repeat(np.arange(len(column)), counts)
    values = lists.filter(lists.list.len().fill_null(0) > 0).explode()
    known = (values.is_not_null() & (values != MISSING_LABEL)).fill_null(value=False)
    rows, values = rows[known.to_numpy()], values.filter(known)
    names = values.unique().sort()
    if len(names) > MOST_CATEGORIES:
        raise ConfigError(
            subject,
            found=f"feature {column.name!r} with {len(names)} values",
            wanted=f"at most {MOST_CATEGORIES} categories",
            next_step="name a feature of kind multi or categorical, not a text",
        )
    matrix = np.zeros((len(column), len(names)), dtype=np.bool_)
    matrix[rows, names.search_sorted(values).to_numpy()] = True
    return ItemCategories(tuple(names.to_list()), matrix)


def _times(aligned: pl.DataFrame, name: str, subject: str) -> IntArray:
    column = aligned[name]
    if not column.dtype.is_numeric():
        raise ConfigError(
            subject,
            found=f"feature {name!r} of type {column.dtype}",
            wanted="a numeric feature",
            next_step="name one that holds seconds since 1970",
        )
    known = column.cast(pl.Float64).is_finite().fill_null(value=False)
    if missing_name(name) in aligned.columns:
        known &= ~aligned[missing_name(name)].fill_null(value=False)
    largest = column.filter(known).cast(pl.Float64).abs().max()
    if isinstance(largest, float) and not _EARLIEST <= largest < _LATEST:
        raise ConfigError(
            subject,
            found=f"feature {name!r} with the largest value {largest:g}",
            wanted="seconds since 1970; this looks like years, days or milliseconds",
            next_step="bring the column to seconds, or leave age_from out: then an item is known "
            "since its first interaction",
        )
    seconds = column.cast(pl.Float64).floor().set(~known, None).cast(pl.Int64, strict=False)
    return seconds.fill_null(UNKNOWN_TIME).to_numpy().astype(np.int64)
