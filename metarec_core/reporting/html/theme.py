"""Colours and layout of the page, light and dark, and the same for its charts.

Lines are in the colours of Okabe & Ito (2008, "Color Universal Design"), lightened on dark ground;
the page follows the reader's scheme without asking.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

_SHEET = Path(__file__).with_name("page.css")
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"

_LIGHT = {
    "page": "#f6f6f3",
    "card": "#ffffff",
    "text": "#1f2328",
    "quiet": "#5d656e",
    "line": "#dedfda",
    "accent": "#0072B2",
    "good": "#00724f",
    "bad": "#b3261e",
}
_DARK = {
    "page": "#14161a",
    "card": "#1c1f24",
    "text": "#e7e7e3",
    "quiet": "#a3aab2",
    "line": "#343940",
    "accent": "#62b5e8",
    "good": "#4fd0a3",
    "bad": "#ff8a80",
}
_LINES_LIGHT = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7A6A00",
)  # fmt: skip
_LINES_DARK = (
    "#58AEE6", "#FF8A4C", "#3CCBA0", "#E5A3C7", "#F3BE55", "#A5D8F8", "#F4F4F0", "#CDBB4A",
)  # fmt: skip


def _variables(colours: dict[str, str], lines: tuple[str, ...]) -> str:
    named = [f"--{name}:{value}" for name, value in colours.items()]
    return ";".join([*named, *(f"--c{place}:{value}" for place, value in enumerate(lines))])


def style() -> str:
    """The page's style sheet."""
    light = f":root{{color-scheme:light dark;--font:{_FONT};{_variables(_LIGHT, _LINES_LIGHT)}}}"
    dark = f"@media (prefers-color-scheme:dark){{:root{{{_variables(_DARK, _LINES_DARK)}}}}}"
    return "\n".join([light, dark, _SHEET.read_text(encoding="utf-8")])


def chart_config(*, dark: bool) -> dict[str, Any]:
    """Vega-Lite configuration of all charts in one of the two schemes."""
    colours, lines = (_DARK, _LINES_DARK) if dark else (_LIGHT, _LINES_LIGHT)
    return {
        "background": "transparent",
        "font": _FONT,
        "view": {"stroke": None},
        "range": {"category": list(lines)},
        "line": {"color": lines[0]},
        "point": {"color": lines[0]},
        "axis": {
            "labelColor": colours["quiet"],
            "titleColor": colours["quiet"],
            "domainColor": colours["line"],
            "tickColor": colours["line"],
            "gridColor": colours["line"],
            "gridOpacity": 0.7,
            "labelFontSize": 11,
            "titleFontSize": 11.5,
            "titleFontWeight": "normal",
            "labelFlush": False,
        },
        "rule": {"color": colours["quiet"]},
        "tick": {"color": colours["text"]},
        "bar": {"color": lines[0]},
        "style": {
            "limit": {"color": colours["quiet"], "strokeDash": [5, 4], "strokeWidth": 1.2},
            "pure": {"color": colours["text"]},
            "chosen": {"color": colours["text"], "strokeWidth": 2.2},
            "middle": {"fillOpacity": 0.55},
        },
    }
