"""What compiling rules has to tell that is no reason to stop."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class RuleFinding:
    """One remark about the rules.

    Attributes:
        kind: What it is about: ``duplicated_rows``, ``empty_table``, ``expired``,
            ``unknown_items``, ``unknown_allowed``, ``unknown_users``, ``segment_without_users``,
            ``closed_items``, ``closed_allowed``, ``closed_pins``, ``unreachable_quota`` or
            ``empty_lists``.
        count: How many rows of the table, or lists, it is about.
        message: The remark as a sentence.
    """

    kind: str
    count: int
    message: str


def rows_named(rows: Iterable[int]) -> str:
    """``row 3``, or ``rows 3, 8 and 2 more``: the first few of ascending row numbers.

    >>> rows_named([3]), rows_named([1, 2, 3, 4, 5, 6])
    ('row 3', 'rows 1, 2, 3, 4, 5 and 1 more')
    """
    numbers = [str(row) for row in rows]
    word = "row" if len(numbers) == 1 else "rows"
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return f"{word} {', '.join(numbers[:_SHOWN])}{more}"
