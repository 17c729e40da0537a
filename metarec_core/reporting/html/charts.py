"""Charts as Vega-Lite specifications, and the panels that hold them.

A chart is built with Altair, and bears neither colours nor a size: the page draws it in the width
of its panel and in the colours of the reader's light or dark scheme (:mod:`theme`). Every chart
has one place in the page, and one JSON object; the library that draws them stands in the page once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import altair as alt
import polars as pl

Spec = dict[str, Any]

HEIGHT = 230
"""Pixels of a chart's plotting area."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart with its heading.

    Attributes:
        key: Identifies the chart within the page: letters, digits and hyphens.
        title: Heading.
        hint: How to read it, in a few words.
        spec: The chart.
    """

    key: str
    title: str
    hint: str
    spec: Spec


def spec_of(*layers: alt.Chart) -> Spec:
    """The specification of charts laid over each other, without the library's own colours."""
    whole = alt.LayerChart(layer=list(layers), width="container", height=HEIGHT)
    # The shapes are ours and tests validate them; that takes most of the time.
    spec: Spec = whole.to_dict(validate=False)
    spec.pop("config", None)
    # An address that nothing reads.
    spec.pop("$schema", None)
    return spec


def finite(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with null for every number that JSON cannot hold."""
    floats = pl.col(pl.Float32, pl.Float64)
    return frame.with_columns(pl.when(floats.is_finite()).then(floats))


def panels(charts: Sequence[Panel]) -> str:
    """The panels, side by side where there is room."""
    figures = "\n".join(
        f'<figure><figcaption>{escape(one.title)}<span class="hint">{escape(one.hint)}</span>'
        f'</figcaption><div class="chart" id="{one.key}" role="img" '
        f'aria-label="{escape(one.title)}"></div></figure>'
        for one in charts
    )
    return f'<div class="panels">\n{figures}\n</div>'


def legend(names: Sequence[str]) -> str:
    """Names beside their colours, which are those of the theme, in order."""
    entries = "".join(
        f'<span><i style="background:var(--c{place % 8})"></i>{escape(name)}</span>'
        for place, name in enumerate(names)
    )
    return f'<div class="legend">{entries}</div>'


def in_script(value: Any) -> str:
    """JSON that may stand in a script: no text in it can end the script."""
    plain = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return plain.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
