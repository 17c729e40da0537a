"""Figures hold what they should, in any mood of the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure

from metarec_core.evaluation import METRICS, SUMMARY_SCHEMA
from metarec_core.reporting.figures import (
    accuracy_figure,
    calibration_figure,
    save_figure,
    support_figure,
    training_figure,
)


@pytest.fixture(scope="module")
def summary() -> pl.DataFrame:
    figures = {"ndcg_at_10": 0.3, "mae": 0.75, "coverage_50": 0.52, "coverage_90": 0.9}
    rows = [
        (
            learner,
            size,
            metric,
            None if learner == "popularity" and metric != "ndcg_at_10" else figures.get(metric),
            0.01,
            94,
        )
        for learner in ("popularity", "bias", "gaussian")
        for size in ("0", "5", "10", "20", "all")
        for metric in METRICS
    ]
    return pl.DataFrame(rows, schema=SUMMARY_SCHEMA, orient="row")


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for box in figure.legends for text in box.get_texts()]


def titles(figure: Figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes]


def test_accuracy(summary: pl.DataFrame) -> None:
    figure = accuracy_figure(summary)
    assert titles(figure) == ["NDCG@10", "MAE"]
    assert legend(figure) == ["popularity", "bias", "gaussian"]
    ranking, error = figure.axes
    assert [label.get_text() for label in ranking.get_xticklabels()] == ["0", "5", "10", "20"]
    assert len(ranking.containers) == 3
    assert len(error.containers) == 2, "popularity has no error to show"


def test_a_learner_keeps_its_colour_in_every_panel(summary: pl.DataFrame) -> None:
    ranking, error = accuracy_figure(summary).axes
    colours = [
        {bar.get_label(): bar.lines[0].get_color() for bar in axes.containers}
        for axes in (ranking, error)
    ]
    assert colours[1].items() <= colours[0].items()
    assert len(set(colours[0].values())) == 3


def test_a_metric_nobody_has_is_left_out(summary: pl.DataFrame) -> None:
    implicit = summary.filter(pl.col("learner") == "popularity")
    assert titles(accuracy_figure(implicit)) == ["NDCG@10"]


def test_calibration(summary: pl.DataFrame) -> None:
    figure = calibration_figure(summary)
    assert titles(figure) == ["50% predictive interval", "90% predictive interval"]
    assert legend(figure) == ["nominal", "bias", "gaussian"]
    low, high = figure.axes[1].get_ylim()
    assert low <= 0.8
    assert high == 1.0


def test_training_curves() -> None:
    curves = {"train_loss": [3.0, float("nan"), 1.0], "validation_mae": [0.8], "none": []}
    figure = training_figure(curves, title="gaussian")
    assert titles(figure) == ["train loss", "validation MAE"]
    assert figure.axes[0].lines[0].get_xdata().tolist() == [1, 2, 3]


def test_support_sizes() -> None:
    figure = support_figure(np.array([0, 1, 4, 5, 9, 10, 19, 20, 49, 50, 9999]))
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == [1, 2, 2, 2, 2, 2]
    assert titles(figure) == ["11 users by what is known of them"]
    many = support_figure(np.concatenate([np.zeros(1), np.full(999, 60)]).astype(np.int64))
    assert next(text.get_text() for text in many.axes[0].texts) == "1\n<1%"


def test_every_figure_is_written_with_the_same_bytes(summary: pl.DataFrame, tmp_path: Path) -> None:
    empty = summary.clear()
    makers = {
        "accuracy": lambda: accuracy_figure(summary),
        "calibration": lambda: calibration_figure(summary),
        "training": lambda: training_figure({"loss": [1.0, 0.5]}),
        "support": lambda: support_figure(np.array([3, 60])),
        "no-accuracy": lambda: accuracy_figure(empty),
        "no-calibration": lambda: calibration_figure(empty),
        "no-training": lambda: training_figure({}, title="popularity"),
        "no-support": lambda: support_figure(np.zeros(0, dtype=np.int64)),
    }
    for name, make in makers.items():
        first, second = tmp_path / f"{name}-1.png", tmp_path / f"{name}-2.png"
        save_figure(make(), first)
        save_figure(make(), second)
        assert first.read_bytes().startswith(b"\x89PNG")
        assert first.read_bytes() == second.read_bytes()
