"""Reasons in words: one plain sentence for each entry of a list."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from metarec_core.episodes.types import ValueScale
from metarec_core.schema import Columns, Feedback

Reason = Mapping[str, Any]

_MOST_NAMED = 3
_WORTH_NAMING = 0.1
"""Part of the strongest named share that another one must reach to be spoken of."""

_LIKED = "many people like it"

_NOTHING = 1e-6
"""Shares below are rounding."""

_ARTICLES = "The|A|An|La|Le|Les|L'|Un|Une|El|Los|Las|Una|Lo|Il|Gli|I|Der|Die|Das|Ein|Eine|De|Het|O"
_ARTICLE_LAST = re.compile(rf"(^|\()([^()]+), ({_ARTICLES})(?=\)| \(|$)")


def readable_title(title: str) -> str:
    """A catalogue title as people say it.

    >>> readable_title("Usual Suspects, The (1995)")
    'The Usual Suspects (1995)'
    >>> readable_title("City of Lost Children, The (Cité des enfants perdus, La) (1995)")
    'The City of Lost Children (La Cité des enfants perdus) (1995)'
    """

    def article_first(match: re.Match[str]) -> str:
        opening, name, article = match.groups()
        return f"{opening}{article}{'' if article.endswith(chr(39)) else ' '}{name}"

    return _ARTICLE_LAST.sub(article_first, title)


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
    named = [reason for reason in reasons if reason["kind"] == "support"]
    general = _general(by_kind["item"])
    has_history = bool(named) or "rest" in by_kind
    if not has_history:
        return f"Nothing of yours is known yet: {_prior(by_kind.get('prior', 0.0), general)}."
    shares = [float(reason["share"]) for reason in named] + [by_kind.get("rest", 0.0)]
    beyond = by_kind.get("beyond", 0.0)
    if abs(beyond) > sum(map(abs, shares)):
        known = _from_shares(shares, named, by_kind, general, scale, personal=True)
        return f"{known[:-1]}. Most of the score is a network's, which gives no exact reasons."
    return _from_shares(shares, named, by_kind, general, scale, personal=personal)


def _from_shares(
    shares: Sequence[float],
    named: Sequence[Reason],
    by_kind: Mapping[str, float],
    general: str,
    scale: ValueScale,
    *,
    personal: bool,
) -> str:
    yours = "ratings" if scale.feedback is Feedback.EXPLICIT else "history"
    if max(map(abs, shares)) < _NOTHING:
        influence = "no exact share in it" if "beyond" in by_kind else "no influence"
        return f"{_capital(general)}; your {yours} had {influence}."
    if not personal:
        return f"{_capital(general)}; your {yours} moved every entry alike."
    return _from_history(named, by_kind.get("rest", 0.0), general, scale)


def list_lines(rows: pl.DataFrame, scale: ValueScale) -> list[str]:
    """One user's list as lines of text.

    Args:
        rows: The user's rows of a published or served list, in any order.
        scale: What values mean.

    Returns:
        A heading, then for each entry its title, its figures and its reason; nothing without
        rows.
    """
    if rows.is_empty():
        return []
    entries = rows.sort(Columns.RANK).rows(named=True)
    known = entries[0][Columns.SUPPORT_SIZE]
    what = "rating" if scale.feedback is Feedback.EXPLICIT else "interaction"
    lines = [f"User {entries[0][Columns.USER]} ({known} {what}{'' if known == 1 else 's'} known)"]
    personal = _differs_by_entry([entry[Columns.REASONS] for entry in entries])
    width = len(str(entries[-1][Columns.RANK]))
    indent = " " * (width + 2)
    for entry in entries:
        lines += [
            f"{entry[Columns.RANK]:>{width}}. {readable_title(_name(entry))}",
            f"{indent}{_figures(entry, scale)}",
            f"{indent}{sentence(entry[Columns.REASONS], scale, personal=personal)}",
        ]
    return lines


def _general(share: float) -> str:
    if share > 0.0:
        return _LIKED
    return "it is chosen less often than most"


def _prior(share: float, general: str) -> str:
    if share > _NOTHING:
        return f"it suits people like you, and {general}"
    if share < -_NOTHING:
        return f"{general}, although it suits people like you less than others"
    return general


def _from_history(named: Sequence[Reason], rest: float, general: str, scale: ValueScale) -> str:
    floor = _WORTH_NAMING * max((abs(reason["share"]) for reason in named), default=0.0)
    ordered = sorted(named, key=lambda reason: -abs(reason["share"]))
    favour = [reason for reason in ordered if reason["share"] >= max(floor, _NOTHING)]
    against = [reason for reason in ordered if reason["share"] <= -max(floor, _NOTHING)]
    explicit = scale.feedback is Feedback.EXPLICIT
    whole = "your ratings" if explicit else "your history"
    others = f"{'your other ratings' if explicit else 'the rest of your history'} taken together"
    objections = [_objection(reason, scale) for reason in against[:_MOST_NAMED]]
    opening = ""
    if favour:
        verb = "rated" if explicit else "chose"
        causes = _listing(_cause(reason, scale) for reason in favour[:_MOST_NAMED])
        most = "" if rest <= sum(reason["share"] for reason in favour) else "most of all for "
        opening = f"because you {verb} {causes}"
        opening += f", and {most or 'for '}{others}" if rest > floor else ""
    elif rest > floor:
        opening = f"because of {others if against else f'{whole} taken together'}"
    if rest < -floor:
        objections.append(others if named else f"{whole} taken together")
    clauses = [
        opening,
        f"{general} too" if opening and general == _LIKED else general,
        f"against it: {_listing(objections)}" if objections else "",
    ]
    return _capital("; ".join(filter(None, clauses))) + "."


def _cause(reason: Reason, scale: ValueScale) -> str:
    title = readable_title(_name(reason))
    if scale.feedback is Feedback.IMPLICIT:
        return title
    only = "only " if reason["value"] < scale.relevant_from else ""
    return f"{title} {only}{_number(reason['value'])}"


def _objection(reason: Reason, scale: ValueScale) -> str:
    title = readable_title(_name(reason))
    if scale.feedback is Feedback.IMPLICIT:
        return title
    return f"your {_number(reason['value'])} for {title}"


def _differs_by_entry(lists: Sequence[Sequence[Reason]]) -> bool:
    totals = [
        sum(float(reason["share"]) for reason in reasons if reason["kind"] != "item")
        for reasons in lists
    ]
    return len(totals) < 2 or max(totals) - min(totals) > _NOTHING


def _figures(entry: Mapping[str, Any], scale: ValueScale) -> str:
    score = f"list score {entry[Columns.SCORE]:.3f}"
    if entry[Columns.RATING] is None:
        return score
    what = "rating" if scale.feedback is Feedback.EXPLICIT else "value"
    # A forecast is a mean and may overshoot what anyone can give; a reader would be puzzled.
    rating = min(max(entry[Columns.RATING], scale.minimum), scale.maximum)
    forecast = f"predicted {what} {rating:.1f}"
    if entry[Columns.SD] is not None:
        forecast += f" ± {entry[Columns.SD]:.1f} (predictive sd)"
    return f"{forecast}, {score}"


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry[Columns.TITLE] or entry[Columns.ITEM])


def _number(value: float) -> str:
    return f"{round(value, 2):g}"


def _listing(parts: Iterable[str]) -> str:
    parts = list(parts)
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
