"""Names and types of the tables that stages hand to each other."""

from __future__ import annotations

from enum import StrEnum

import polars as pl


class Columns:
    """Every column name that more than one module uses."""

    USER = "user_id"
    ITEM = "item_id"
    VALUE = "value"
    TIME = "timestamp"
    SOURCE_ROW = "source_row"
    TITLE = "title"
    RUN_DATE = "run_date"
    RANK = "rank"
    SCORE = "score"
    RATING = "rating"
    SD = "sd"
    P_RELEVANT = "p_relevant"
    SEGMENT = "segment"
    SUPPORT_SIZE = "support_size"
    REASONS = "reasons"
    RULE_FLAGS = "rule_flags"


class Table(StrEnum):
    """The tables of a dataset and of a night."""

    INTERACTIONS = "interactions"
    USERS = "users"
    ITEMS = "items"
    RECOMMENDATIONS = "recommendations"


class Feedback(StrEnum):
    """What an interaction's value means."""

    EXPLICIT = "explicit"
    IMPLICIT = "implicit"


class FeatureKind(StrEnum):
    """How a feature is cleaned, imputed and encoded."""

    CATEGORICAL = "categorical"
    NUMERIC = "numeric"
    MULTI = "multi"
    TEXT = "text"


FEATURE_TYPES: dict[FeatureKind, pl.DataType] = {
    FeatureKind.CATEGORICAL: pl.String(),
    FeatureKind.NUMERIC: pl.Float64(),
    FeatureKind.MULTI: pl.List(pl.String()),
    FeatureKind.TEXT: pl.String(),
}
"""Column type of each kind of feature in the raw and the cleaned tables."""

INTERACTIONS_SCHEMA = pl.Schema(
    {
        Columns.USER: pl.String(),
        Columns.ITEM: pl.String(),
        Columns.VALUE: pl.Float64(),
        Columns.TIME: pl.Int64(),
        Columns.SOURCE_ROW: pl.Int64(),
    }
)
"""Raw and cleaned interactions. ``timestamp`` is seconds since the epoch, UTC, and may be null;
``source_row`` is the 1-based data row of the source file."""

REASON_TYPE = pl.Struct(
    {
        "kind": pl.String(),
        "item_id": pl.String(),
        "title": pl.String(),
        "feature": pl.String(),
        "value": pl.Float64(),
        "share": pl.Float64(),
        "rank": pl.Int32(),
    }
)
"""One reason of an entry. Kinds that add up: ``item``, ``prior``, ``support``, ``rest`` (all
support interactions that are not listed one by one) and ``beyond`` (what has no exact reason: the
members of an average that are not linear); their shares sum to the row's score. Kinds beside the
sum: ``deletion`` (how much lower the score would be without that interaction, found by asking the
network again without it), ``feature`` (what a named feature of the item contributes) and
``counterfactual`` (without that interaction the entry would have the place ``rank`` among the
candidates, its score lower by ``share``). ``item_id``, ``title`` and ``value`` (the rating or
weight) are null unless an interaction is spoken of, ``feature`` unless a feature is, and ``rank``
unless a place is."""

RECOMMENDATIONS_SCHEMA = pl.Schema(
    {
        Columns.RUN_DATE: pl.Date(),
        Columns.USER: pl.String(),
        Columns.RANK: pl.Int32(),
        Columns.ITEM: pl.String(),
        Columns.TITLE: pl.String(),
        Columns.SCORE: pl.Float64(),
        Columns.RATING: pl.Float64(),
        Columns.SD: pl.Float64(),
        Columns.P_RELEVANT: pl.Float64(),
        Columns.SEGMENT: pl.String(),
        Columns.SUPPORT_SIZE: pl.Int32(),
        Columns.REASONS: pl.List(REASON_TYPE),
        Columns.RULE_FLAGS: pl.List(pl.String()),
    }
)
"""Published lists. ``score`` is what ranks an entry before rules and diversity have their say;
``rating`` is the predicted value of the interaction and ``sd`` its *predictive* standard deviation
(noise included); of learners that predict no value ``rating`` is null and ``sd`` is that of the
*score* under the preference, null where that is not known; ``p_relevant`` the calibrated
probability that the user would find it relevant, null where that cannot be known; ``rule_flags``
says which rules and re-ranking put the entry where it stands, and on the last entry of a list
shorter than asked why it is short."""

SEGMENT_BANDS: tuple[tuple[int, str], ...] = (
    (0, "0"),
    (1, "1-4"),
    (5, "5-9"),
    (10, "10-19"),
    (20, "20-49"),
    (50, "50+"),
)
"""Lower bound and name of each support-size band."""


def segment(support_size: int) -> str:
    """Name of the band that a support size falls in.

    >>> segment(0), segment(7), segment(400)
    ('0', '5-9', '50+')
    """
    name = SEGMENT_BANDS[0][1]
    for lower, band in SEGMENT_BANDS:
        if support_size >= lower:
            name = band
    return name
