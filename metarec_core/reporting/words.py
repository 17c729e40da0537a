"""Titles, numbers and lists as people say them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from metarec_core.schema import Columns

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


def name(entry: Mapping[str, Any]) -> str:
    """What an item is called: its title, or "item" and its id where it has none but that."""
    title, item = entry[Columns.TITLE], entry[Columns.ITEM]
    return str(title) if title and title != item else f"item {item}"


def number(value: float) -> str:
    """A rating or a weight, without needless digits."""
    return f"{round(value, 2):g}"


def listing(parts: Iterable[str]) -> str:
    """Parts joined as people join them.

    >>> listing(["a", "b", "c"])
    'a, b and c'
    """
    parts = list(parts)
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def capital(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]
