"""Nearest names, for messages about a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """``"did you mean 'rating'? "``, or nothing when no choice is near.

    >>> did_you_mean("raing", ["rating", "user"])
    "did you mean 'rating'? "
    >>> did_you_mean("x", ["rating"])
    ''
    """
    by_folded = {choice.casefold(): choice for choice in choices}
    near = difflib.get_close_matches(name.casefold(), by_folded, n=1)
    return f"did you mean {by_folded[near[0]]!r}? " if near else ""


def listing(names: Iterable[str], limit: int = 20) -> str:
    """Names joined by commas, the overlong tail counted instead of shown."""
    shown = list(names)
    tail = f" and {len(shown) - limit} more" if len(shown) > limit else ""
    return (", ".join(shown[:limit]) or "nothing") + tail
