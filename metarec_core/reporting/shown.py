"""All that is known of a user's list, for people and for programs: what ``metarec show`` prints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from metarec_core.episodes.types import ValueScale
from metarec_core.reporting.forecasts import figures, interval
from metarec_core.reporting.sentences import Reason, same_for_all, sentence
from metarec_core.reporting.share_lines import share_lines, without_line
from metarec_core.reporting.taste_lines import taste_lines
from metarec_core.reporting.words import name, readable_title
from metarec_core.schema import Columns, Feedback
from metarec_core.serving.portrait import Portrait


@dataclass(frozen=True, slots=True)
class Shown:
    """A user's published list, with what its model says of it where that can be asked.

    Attributes:
        rows: Of ``RECOMMENDATIONS_SCHEMA``, one user.
        scale: What values mean.
        source: Which model made the list, in words; empty where that is not known.
        portrait: What the model says at length; None where it cannot be asked.
        missing: What could not be said, and why, a sentence each.
    """

    rows: pl.DataFrame
    scale: ValueScale
    source: str = ""
    portrait: Portrait | None = None
    missing: Sequence[str] = ()

    def lines(self) -> list[str]:
        """Plain sentences; nothing without rows."""
        if self.rows.is_empty():
            return []
        entries = self._entries()
        size = entries[0][Columns.SUPPORT_SIZE]
        lines = [self._heading(entries[0]), ""]
        personal = not same_for_all([entry[Columns.REASONS] for entry in entries])
        width = len(str(entries[-1][Columns.RANK]))
        for entry in entries:
            said = [
                figures(entry, self.scale),
                sentence(entry[Columns.REASONS], self.scale, personal=personal),
                *share_lines(entry, entry[Columns.REASONS], self.scale),
                without_line(entry["without"], self.scale) if size else "",
                _ruled(entry.get(Columns.RULE_FLAGS)),
            ]
            lines.append(f"{entry[Columns.RANK]:>{width}}. {readable_title(name(entry))}")
            lines += [f"{' ' * (width + 2)}{line}" for line in said if line]
        liked = self._taste_lines(size)
        if liked:
            lines += ["", "What you like, and how sure the model is", *liked]
        return [*lines, *([""] if self.missing else []), *self.missing]

    def to_json(self) -> str:
        """The same as one JSON object."""
        entries = [
            {
                **entry,
                Columns.RUN_DATE: str(entry[Columns.RUN_DATE]),
                "interval_90": interval(entry, self.scale),
                "sentence": sentence(entry[Columns.REASONS], self.scale),
            }
            for entry in self._entries()
        ]
        tastes = [] if self.portrait is None else self.portrait.tastes.to_dicts()
        return json.dumps(
            {
                "user_id": entries[0][Columns.USER] if entries else None,
                "source": self.source,
                "list": entries,
                "tastes": tastes,
                "missing": list(self.missing),
            },
            ensure_ascii=False,
        )

    def _entries(self) -> list[dict[str, Any]]:
        """Rows with the longer reasons of the model, where it has any, and what places hang on."""
        rows = self.rows.sort(Columns.RANK)
        entries = rows.rows(named=True)
        longer: list[list[Reason] | None] = [None] * len(entries)
        without: Mapping[str, dict[str, Any]] = {}
        if self.portrait is not None:
            by_item = dict(zip(self.rows[Columns.ITEM], self.portrait.reasons, strict=True))
            longer = [_listed(by_item[entry[Columns.ITEM]]) for entry in entries]
            found = self.portrait.without.rows(named=True)
            without = {one[Columns.ITEM]: one for one in found}
        return [
            {
                **entry,
                Columns.REASONS: entry[Columns.REASONS] if more is None else more,
                "without": without.get(entry[Columns.ITEM]),
            }
            for entry, more in zip(entries, longer, strict=True)
        ]

    def _heading(self, entry: Mapping[str, Any]) -> str:
        size = entry[Columns.SUPPORT_SIZE]
        what = "rating" if self.scale.feedback is Feedback.EXPLICIT else "interaction"
        known = f"{size} {what}{'' if size == 1 else 's'} known"
        day = entry.get(Columns.RUN_DATE)
        made = f"; list of {day}" if day else "; list"
        source = f", made by {self.source}" if self.source else ""
        return f"User {entry[Columns.USER]}: {known}{made}{source}"

    def _taste_lines(self, size: int) -> list[str]:
        if self.portrait is None:
            return []
        return taste_lines(self.portrait.tastes, self.scale.feedback, size)


def _ruled(flags: Sequence[str] | None) -> str:
    """What rules and re-ranking did to an entry's place."""
    return f"Rules and re-ranking: {'; '.join(flags)}." if flags else ""


def _listed(reasons: pl.Series | list[Reason] | None) -> list[Reason] | None:
    return None if reasons is None else list(reasons)
