"""What is forecast of an entry, and how sure that is, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metarec_core.episodes.types import ValueScale
from metarec_core.ranking.tastes import NORMAL_95
from metarec_core.reporting.words import capital, number
from metarec_core.schema import Columns, Feedback


def figures(entry: Mapping[str, Any], scale: ValueScale) -> str:
    """What is forecast of an entry, how sure that is, and its list score: one sentence."""
    score = f"list score {entry[Columns.SCORE]:.3f}"
    if entry[Columns.RATING] is None and entry[Columns.SD] is not None:
        reach = NORMAL_95 * entry[Columns.SD]
        low, high = entry[Columns.SCORE] - reach, entry[Columns.SCORE] + reach
        score += f", nine times in ten between {low:.1f} and {high:.1f} as far as you are known"
    parts = [forecast(entry, scale), chance(entry, scale), score]
    return capital("; ".join(filter(None, parts))) + "."


def interval(entry: Mapping[str, Any], scale: ValueScale) -> tuple[float, float] | None:
    """The 90 % predictive interval of an entry's value, within the scale; None where unknown."""
    if entry[Columns.RATING] is None or entry[Columns.SD] is None:
        return None
    reach = NORMAL_95 * entry[Columns.SD]
    low, high = entry[Columns.RATING] - reach, entry[Columns.RATING] + reach
    return _on_scale(low, scale), _on_scale(high, scale)


def forecast(entry: Mapping[str, Any], scale: ValueScale) -> str:
    """The predicted value and its interval, in words; empty where none is predicted."""
    if entry[Columns.RATING] is None:
        return ""
    what = "rating" if scale.feedback is Feedback.EXPLICIT else "value"
    # A forecast is a mean and may overshoot what anyone can give; a reader would be puzzled.
    said = f"predicted {what} {_on_scale(entry[Columns.RATING], scale):.1f}"
    bounds = interval(entry, scale)
    if bounds is not None:
        said += f", nine times in ten between {bounds[0]:.1f} and {bounds[1]:.1f}"
    return said


def chance(entry: Mapping[str, Any], scale: ValueScale) -> str:
    """How likely it is that the user finds the entry relevant; empty where unknown."""
    known = entry.get(Columns.P_RELEVANT)
    if known is None:
        return ""
    if scale.feedback is Feedback.IMPLICIT:
        return f"{known:.0%} likely to be among your next ten"
    return f"{known:.0%} likely to be {number(scale.relevant_from)} or more"


def _on_scale(value: float, scale: ValueScale) -> float:
    return min(max(value, scale.minimum), scale.maximum)
