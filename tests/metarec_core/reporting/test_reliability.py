"""The reliability plot holds its points, counts and errors."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from metarec_core.calibration.reliability import RELIABILITY_SCHEMA
from metarec_core.reporting.figures import save_figure
from metarec_core.reporting.reliability import reliability_figure


@pytest.fixture
def bins() -> pl.DataFrame:
    rows = [
        (learner, segment, place, 100, 30, 0.1 + 0.4 * place, 0.1 + 0.4 * place + off)
        for learner, off in (("champion", 0.1), ("average", 0.02), ("bias", 0.3))
        for segment in ("all", "5-9")
        for place in range(2)
    ]
    return pl.DataFrame(rows, schema=RELIABILITY_SCHEMA, orient="row")


def test_each_segment_has_a_panel_with_counts_and_errors(bins: pl.DataFrame) -> None:
    figure = reliability_figure(bins, ["champion", "average"])
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "all support sizes: 200 pairs",
        "5-9 known: 200 pairs",
    ]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["as said", "champion", "average"]
    texts = {text.get_text() for text in figure.axes[0].texts}
    assert texts == {"champion: error 0.100", "average: error 0.020"}
    leading = figure.axes[0].containers[-1].lines[0]
    assert leading.get_xdata().tolist() == [0.1, 0.5]
    assert leading.get_ydata().tolist() == pytest.approx([0.12, 0.52])


def test_a_learner_without_a_bin_is_left_out(bins: pl.DataFrame) -> None:
    figure = reliability_figure(bins, ["nobody", "bias", "popularity"])
    assert {text.get_text() for text in figure.axes[0].texts} == {"bias: error 0.300"}


def test_the_same_bins_give_the_same_bytes(bins: pl.DataFrame, tmp_path: Path) -> None:
    for name, shown in (("some", bins), ("none", bins.clear())):
        for copy in ("one", "other"):
            save_figure(reliability_figure(shown, ["average"]), tmp_path / f"{name}-{copy}.png")
        one, other = (tmp_path / f"{name}-{copy}.png" for copy in ("one", "other"))
        assert one.read_bytes() == other.read_bytes()
