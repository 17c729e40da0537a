"""Pieces of HTML that outside text cannot break."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from html import escape

_URL = re.compile(r"https?://\S+\Z", re.ASCII)

MISSING = "–"


def text(value: object) -> str:
    """Outside text, escaped; nothing is a dash."""
    plain = "" if value is None else str(value).strip()
    return escape(plain) or MISSING


def number(value: float | None, digits: int = 3) -> str:
    """A number; null and NaN are a dash."""
    return MISSING if value is None or math.isnan(value) else f"{value:,.{digits}f}"


def link(title: str, target: str) -> str:
    """A link to a web address; anything else, such as a path, is shown as code."""
    if _URL.match(target):
        return f'<a href="{escape(target)}" rel="noopener noreferrer">{escape(title)}</a>'
    return f"{escape(title)} <code>{escape(target)}</code>"


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, numbers_from: int | None = None
) -> str:
    """A table of ready-made cells (see :func:`text` for outside text).

    Args:
        header: Column titles, plain.
        rows: As many cells each.
        numbers_from: Columns from this one on are aligned to the right.
    """
    split = len(header) if numbers_from is None else numbers_from

    def line(tag: str, cells: Sequence[str]) -> str:
        return "".join(
            f'<{tag} class="n">{cell}</{tag}>' if place >= split else f"<{tag}>{cell}</{tag}>"
            for place, cell in enumerate(cells)
        )

    body = "\n".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    head = line("th", [escape(title) for title in header])
    inner = f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody>"
    return f'<div class="scroll"><table>{inner}</table></div>'


def note(words: str) -> str:
    """A paragraph that says how to read what follows; plain text."""
    return f'<p class="note">{escape(words)}</p>'
