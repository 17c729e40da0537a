"""Markdown that outside text cannot break."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|~$#!])")
_BACKTICKS = re.compile(r"`+")
_SPACE = re.compile(r"\s+")
_AT_LINE_START = re.compile(r"^(\d+)([.)])|^([-+=])")
_URL = re.compile(r"https?://\S+\Z", re.ASCII)
_URL_SAFE = "/:?&=#%@+,;~.-_!$'*"


def escape(text: str) -> str:
    r"""Plain text on one line: nothing in it is read as Markdown or HTML.

    Runs of white space, line breaks included, become one space.

    >>> escape("a|b *c*\n<d>")
    'a\\|b \\*c\\* \\<d\\>'
    """
    line = _SPECIAL.sub(r"\\\1", _SPACE.sub(" ", text).strip()).replace("&", "&amp;")
    # A line that starts like a list or an underline would become one.
    return _AT_LINE_START.sub(
        lambda found: f"{found[1]}\\{found[2]}" if found[1] else f"\\{found[3]}", line
    )


def code(text: str) -> str:
    """Text on one line in a code span, whatever backticks it holds.

    >>> code("a`b")
    '``a`b``'
    """
    line = _SPACE.sub(" ", text).strip()
    fence = "`" * (_longest_run(line) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") or not line else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def block(text: str) -> str:
    """Text in a fenced block with its line breaks, whatever fences it holds."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}text\n{text.rstrip()}\n{fence}"


def link(title: str, target: str) -> str:
    """A link to a web address; anything else, such as a path, is shown as code after the title.

    >>> link("run", "http://127.0.0.1:4200/runs/a(b)")
    '[run](http://127.0.0.1:4200/runs/a%28b%29)'
    >>> link("lists", "var/lists/latest")
    'lists: `var/lists/latest`'
    """
    if _URL.match(target):
        return f"[{escape(title)}]({quote(target, safe=_URL_SAFE)})"
    return f"{escape(title)}: {code(target)}"


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, numbers_from: int | None = None
) -> str:
    """A table of ready-made cells (see :func:`cell` for outside text).

    Args:
        header: Column titles.
        rows: As many cells each.
        numbers_from: Columns from this one on are aligned to the right.
    """
    split = len(header) if numbers_from is None else numbers_from
    rule = ["---" if place < split else "---:" for place in range(len(header))]
    lines = [_row(header), _row(rule), *(_row(row) for row in rows)]
    return "\n".join(lines)


def cell(text: str | None) -> str:
    """Outside text as the cell of a table; nothing is a dash."""
    return "–" if text is None or not text.strip() else escape(text)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _longest_run(text: str) -> int:
    return max((len(run) for run in _BACKTICKS.findall(text)), default=0)
