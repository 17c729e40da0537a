"""Reasons in words: one plain sentence for each entry of a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from metarec_core.episodes.types import ValueScale
from metarec_core.reporting.words import capital, listing, name, number, readable_title
from metarec_core.schema import Feedback

Reason = Mapping[str, Any]

_MOST_NAMED = 3
_WORTH_NAMING = 0.1
"""Part of the strongest named share that another one must reach to be spoken of."""

_ITSELF = "it is here for the item itself"
"""Said where nothing of the user's speaks for the entry. That many people like it is not said: the
item's share is a mean rating in some scores and a logarithm of counts in others, and that of a
usual item is not known here."""

NOTHING = 1e-6
"""Shares below are rounding."""


_OF_THE_USER = ("prior", "support", "rest", "beyond")
"""Kinds of shares that are a user's and not the item's."""


def sentence(reasons: Sequence[Reason], scale: ValueScale, *, personal: bool = True) -> str:
    """Why an entry is in a list.

    Args:
        reasons: The entry's shares, as ``REASON_TYPE`` says.
        scale: What values mean.
        personal: False where the user's shares are the same for every entry, so that they
            explain the forecast and not the place in the list.
    """
    by_kind = {reason["kind"]: float(reason["share"]) for reason in reasons}
    if "item" not in by_kind:
        return "This model gives no reasons."
    named, asked = _effects(reasons)
    has_history = bool(named) or "rest" in by_kind
    if not has_history:
        return f"Nothing of yours is known yet: {_without_history(by_kind)}."
    shares = [float(reason["share"]) for reason in named] + [by_kind.get("rest", 0.0)]
    beyond = by_kind.get("beyond", 0.0)
    told = "deletion" in by_kind
    if abs(beyond) > sum(map(abs, shares)) and not told:
        known = _from_shares(shares, named, by_kind, scale, personal=True)
        return f"{known[:-1]}. Most of the score is a network's, which gives no exact reasons."
    known = _from_shares(shares, named, by_kind, scale, personal=personal)
    if asked and personal and max(map(abs, shares)) >= NOTHING:
        known += " Part of this was found by asking a network again without them."
    return known


def _effects(reasons: Sequence[Reason]) -> tuple[list[Reason], bool]:
    """Named interactions with all that they bring, and whether most of one was found by asking."""
    deletions = {
        reason["item_id"]: float(reason["share"])
        for reason in reasons
        if reason["kind"] == "deletion"
    }
    named: list[Reason] = []
    asked = False
    for reason in reasons:
        if reason["kind"] != "support":
            continue
        found = deletions.get(reason["item_id"], 0.0)
        named.append({**reason, "share": float(reason["share"]) + found})
        asked = asked or abs(found) > max(abs(float(reason["share"])), NOTHING)
    return named, asked


def _from_shares(
    shares: Sequence[float],
    named: Sequence[Reason],
    by_kind: Mapping[str, float],
    scale: ValueScale,
    *,
    personal: bool,
) -> str:
    yours = "ratings" if scale.feedback is Feedback.EXPLICIT else "history"
    if max(map(abs, shares)) < NOTHING:
        unasked = "beyond" in by_kind and "deletion" not in by_kind
        influence = "no exact share in it" if unasked else "no influence"
        history = f"your {yours} had {influence}"
    elif not personal:
        history = f"your {yours} moved every entry alike"
    else:
        return _from_history(named, by_kind.get("rest", 0.0), scale)
    alone = max(abs(by_kind.get(kind, 0.0)) for kind in ("prior", "beyond")) < NOTHING
    return capital(f"{_ITSELF}; {history}." if alone else f"{history}.")


def _without_history(by_kind: Mapping[str, float]) -> str:
    prior = by_kind.get("prior", 0.0)
    if prior > NOTHING:
        return "it suits people like you"
    if abs(by_kind.get("beyond", 0.0)) >= NOTHING:
        return "it is what anyone like you is given"
    if prior < -NOTHING:
        return f"{_ITSELF}, although it suits people like you less than others"
    return _ITSELF


def _from_history(named: Sequence[Reason], rest: float, scale: ValueScale) -> str:
    floor = _WORTH_NAMING * max((abs(reason["share"]) for reason in named), default=0.0)
    ordered = sorted(named, key=lambda reason: -abs(reason["share"]))
    favour = [reason for reason in ordered if reason["share"] >= max(floor, NOTHING)]
    against = [reason for reason in ordered if reason["share"] <= -max(floor, NOTHING)]
    explicit = scale.feedback is Feedback.EXPLICIT
    whole = "your ratings" if explicit else "your history"
    others = f"{'your other ratings' if explicit else 'the rest of your history'} taken together"
    objections = [_objection(reason, scale) for reason in against[:_MOST_NAMED]]
    opening = ""
    if favour:
        verb = "rated" if explicit else "chose"
        causes = listing(_cause(reason, scale) for reason in favour[:_MOST_NAMED])
        most = "" if rest <= sum(reason["share"] for reason in favour) else "most of all for "
        opening = f"because you {verb} {causes}"
        opening += f", and {most or 'for '}{others}" if rest > floor else ""
    elif rest > floor:
        opening = f"because of {others if against else f'{whole} taken together'}"
    if rest < -floor:
        objections.append(others if named else f"{whole} taken together")
    if not opening:
        return f"It is here in spite of {listing(objections)}."
    against_it = f"; against it: {listing(objections)}" if objections else ""
    return capital(f"{opening}{against_it}.")


def _cause(reason: Reason, scale: ValueScale) -> str:
    title = readable_title(name(reason))
    if scale.feedback is Feedback.IMPLICIT:
        return title
    only = "only " if reason["value"] < scale.relevant_from else ""
    return f"{title} {only}{number(reason['value'])}"


def _objection(reason: Reason, scale: ValueScale) -> str:
    title = readable_title(name(reason))
    if scale.feedback is Feedback.IMPLICIT:
        return title
    return f"your {number(reason['value'])} for {title}"


def same_for_all(lists: Sequence[Sequence[Reason]]) -> bool:
    """Whether the user's shares are the same for every entry: they explain no place in the list."""
    totals = [
        sum(float(one["share"]) for one in reasons if one["kind"] in _OF_THE_USER)
        for reasons in lists
    ]
    return len(totals) > 1 and max(totals) - min(totals) <= NOTHING
