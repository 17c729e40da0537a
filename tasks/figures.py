"""Draw a night's figures beside its evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from metarec_core.episodes.store import Tasks
from metarec_core.reporting.figures import (
    accuracy_figure,
    calibration_figure,
    save_figure,
    support_figure,
    training_figure,
)


def write_figures(out: Path, metrics: pl.DataFrame, training_report: Path, tasks: Tasks) -> None:
    """Accuracy, calibration, training curves and support sizes as PNG files in ``out``."""
    save_figure(accuracy_figure(metrics), out / "accuracy.png")
    save_figure(calibration_figure(metrics), out / "calibration.png")
    save_figure(support_figure(tasks.data.interactions.counts()), out / "support_sizes.png")
    trained = json.loads(training_report.read_text(encoding="utf-8"))
    for name, report in trained.items():
        if report["curves"]:
            figure = training_figure(report["curves"], title=name)
            save_figure(figure, out / f"training_{name}.png")
