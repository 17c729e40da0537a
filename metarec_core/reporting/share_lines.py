"""What a score is made of, share by share, each with its kind: plain sentences with figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from metarec_core.episodes.types import ValueScale
from metarec_core.reporting.sentences import NOTHING, Reason
from metarec_core.reporting.words import listing, name, number, readable_title
from metarec_core.schema import Columns, Feedback

_LEAST = 0.005
"""Shares that print as 0.00 are left out, or said to be small."""

_WORTH_TELLING = 0.02
"""Changes of a network's part that are told one by one."""


def share_lines(
    entry: Mapping[str, Any], reasons: Sequence[Reason], scale: ValueScale
) -> list[str]:
    """The shares of an entry's score as sentences that name the kind of each.

    Args:
        entry: A row of a list; its score and support size are read.
        reasons: Its reasons, as ``REASON_TYPE`` says.
        scale: What values mean.

    Returns:
        What adds up exactly, then what a network brings, then what content brings; only what is
        there.
    """
    exact = list(_exact(entry, reasons, scale))
    if not exact:
        return []
    lines = [f"The score of {entry[Columns.SCORE]:.2f} has these exact shares: {listing(exact)}."]
    lines += _network(reasons, scale)
    features = [
        f"{reason['feature']} {_signed(reason['share'])}"
        for reason in reasons
        if reason["kind"] == "feature" and abs(reason["share"]) >= _LEAST
    ]
    if features:
        said = "Within the part of the score that is linear in its content"
        lines.append(f"{said}, exactly: {listing(features)}.")
    return lines


def without_line(found: Mapping[str, Any] | None, scale: ValueScale) -> str:
    """What one interaction did for an entry's place in the whole catalogue.

    Args:
        found: A row of ``WITHOUT_SCHEMA``; None where the entry does not compete.
        scale: What values mean.
    """
    if found is None:
        return ""
    what = "rating" if scale.feedback is Feedback.EXPLICIT else "interaction"
    if found["without_item_id"] is None:
        still = f"Without any one of your {what}s it would still be number {found['place']}"
        return f"{still} of the catalogue{' or better' if found['place'] > 1 else ''}."
    left_out = {
        Columns.TITLE: found["without_title"],
        Columns.ITEM: found["without_item_id"],
        "value": found["without_value"],
    }
    return (
        f"Without {_interaction(left_out, scale)} it would be number {found['place_without']} of "
        f"the catalogue instead of {found['place']}."
    )


def _exact(entry: Mapping[str, Any], reasons: Sequence[Reason], scale: ValueScale) -> Iterator[str]:
    explicit = scale.feedback is Feedback.EXPLICIT
    named = sum(reason["kind"] == "support" for reason in reasons)
    others = entry[Columns.SUPPORT_SIZE] - named
    for reason in reasons:
        kind, share = reason["kind"], float(reason["share"])
        if kind == "item":
            yield f"{_signed(share)} from the item itself"
        elif abs(share) < _LEAST:
            continue
        elif kind == "prior":
            yield f"{_signed(share)} from what is known of you beside your {_history(explicit)}"
        elif kind == "support":
            yield f"{_signed(share)} from {_interaction(reason, scale)}"
        elif kind == "rest":
            what = ("other rating" if explicit else "other interaction") + "s" * (others != 1)
            yield f"{_signed(share)} from your {others} {what}"


def _network(reasons: Sequence[Reason], scale: ValueScale) -> list[str]:
    beyond = next((float(one["share"]) for one in reasons if one["kind"] == "beyond"), None)
    if beyond is None:
        return []
    opening = f"The other {_signed(beyond)} comes from a network that is not linear in your history"
    deletions = [one for one in reasons if one["kind"] == "deletion"]
    if not deletions:
        return [f"{opening}, so it has no exact shares."]
    told = [
        f"{-float(one['share']):+.2f} without {_interaction(one, scale)}"
        for one in deletions
        if abs(one["share"]) >= _WORTH_TELLING
    ]
    if not told:
        return [f"{opening}; asked again without any one of these it says much the same."]
    return [f"{opening}; asked again it changes by {listing(told)}."]


def _interaction(reason: Mapping[str, Any], scale: ValueScale) -> str:
    title = readable_title(name(reason))
    if scale.feedback is Feedback.IMPLICIT:
        return f"your choice of {title}"
    return f"your {number(reason['value'])} for {title}"


def _history(explicit: bool) -> str:
    return "ratings" if explicit else "history"


def _signed(share: float) -> str:
    return f"{share:+.2f}" if abs(share) >= max(_LEAST, NOTHING) else "0.00"
