"""What a user likes, and how sure the model is of it: plain sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from metarec_core.schema import Feedback

_MOST = 8
"""Kinds of items that are spoken of, the strongest and surest."""

_LEAST = 0.05
"""Differences below, in standard deviations of the user's scores, are not worth a sentence."""


def taste_lines(tastes: pl.DataFrame, feedback: Feedback, support_size: int) -> list[str]:
    """A user's tastes, strongest and surest first.

    Args:
        tastes: Rows of ``TASTES_SCHEMA`` of one user, in that order.
        feedback: Whether values are ratings.
        support_size: How many interactions are known.
    """
    if tastes.is_empty():
        return []
    history = "ratings" if feedback is Feedback.EXPLICIT else "history"
    if support_size == 0:
        return [f"Nothing of your {history} is known, so the model takes you for like most people."]
    different = (pl.col("mean") - pl.col("usual")).abs()
    sure = different > (pl.col("high") - pl.col("mean")).fill_null(0.0)
    rows = tastes.filter(sure, different >= _LEAST).head(_MOST).rows(named=True)
    if not rows:
        return [
            "Your tastes differ from what most people like in nothing that the model is sure of."
        ]
    opening = (
        "Mean list score of items of a kind against all items, in standard deviations of your "
        f"scores; in brackets what it would be if none of your {history} was known."
    )
    lines = [opening, *map(_line, rows)]
    if tastes["low"].null_count() == len(tastes):
        lines.append("This model does not know how sure it is of your tastes.")
    return lines


def _line(row: Mapping[str, Any]) -> str:
    more = row["mean"] > row["usual"]
    kind = _kind(row["feature"], row["label"])
    suits = f"You like {kind} {'more' if more else 'less'} than most people do"
    interval = ""
    if row["low"] is not None:
        interval = f", nine times in ten between {row['low']:+.2f} and {row['high']:+.2f}"
    return f"{suits}: {row['mean']:+.2f}{interval} ({row['usual']:+.2f})."


def _kind(feature: str, label: str) -> str:
    """What a group of items is called in a sentence.

    >>> _kind("genres", "Film-Noir"), _kind("year", "1990s"), _kind("runtime", "up to 90")
    ('Film-Noir', 'the 1990s', 'runtime up to 90')
    """
    if label[:-1].isdigit() and label.endswith("s"):
        return f"the {label}"
    if label[:1].isdigit() or label.startswith(("up to ", "over ")):
        return f"{feature} {label}"
    return label
