"""A study of settings in lines, in Markdown, as plain values and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from metarec_core.config import TuneConfig
from metarec_core.reporting.figures import COLOURS, canvas, heading, legend
from metarec_core.reporting.markdown import cell, table
from metarec_core.reporting.titles import metric_title
from metarec_core.training.tuning import HIGHER_IS_BETTER, Trial, Tuning

BEST_SHOWN = 10
"""Trials in the table."""


def tuning_document(found: Tuning, asked: TuneConfig, seed: int) -> dict[str, Any]:
    """Everything that was tried, as plain values."""
    return {
        "learner": asked.learner,
        "metric": asked.metric,
        "seed": seed,
        "asked": asked.trials,
        "best": asdict(found.best),
        "importance": dict(found.importance),
        "trials": [asdict(trial) for trial in found.trials],
    }


def trial_line(trial: Trial, asked: TuneConfig) -> str:
    """One trial on one line.

    >>> trial = Trial(3, "completed", {"ridge": 250.0}, 0.41234, 0.01, 0, 2.0, None)
    >>> trial_line(trial, TuneConfig(learner="ease", trials=20))
    'trial 4/20 completed: NDCG@10 0.4123 (se 0.0100) in 2.0 s; ridge=250'
    """
    values = ", ".join(f"{path}={_short(value)}" for path, value in trial.values.items())
    told = trial.error or values
    if trial.score is None:
        what = f"{trial.state} after {trial.epochs} epochs"
    else:
        what = f"completed: {metric_title(asked.metric)} {trial.score:.4f} (se {trial.se or 0:.4f})"
    return f"trial {trial.number + 1}/{asked.trials} {what} in {trial.seconds:.1f} s; {told}"


def tuning_lines(found: Tuning, asked: TuneConfig) -> list[str]:
    """The best trials as a table for a terminal, and what mattered."""
    names, rows = _table(found, asked)
    cells = [names, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(names))]
    lines = [
        "  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True))
        for row in cells
    ]
    return [_headline(found, asked), "", *lines, "", *_importance_lines(found)]


def tuning_report(found: Tuning, asked: TuneConfig) -> str:
    """The same in Markdown."""
    names, rows = _table(found, asked)
    shown = table([cell(name) for name in names], rows, numbers_from=0)
    parts = [f"# Tuning of {cell(asked.learner)}", _headline(found, asked), shown]
    return "\n\n".join([*parts, *_importance_lines(found)]) + "\n"


def history_figure(found: Tuning, asked: TuneConfig) -> Figure:
    """Score of each trial, and the best so far; where a trial was stopped stands a mark below."""
    figure, (axes,) = canvas(1, width=7.2, height=4.2)
    scored = [(trial.number + 1, trial.score) for trial in found.trials if trial.score is not None]
    best = max if asked.metric in HIGHER_IS_BETTER else min
    so_far = [best(score for _, score in scored[: place + 1]) for place in range(len(scored))]
    numbers = [number for number, _ in scored]
    axes.plot(
        numbers,
        [score for _, score in scored],
        linestyle="",
        marker="o",
        color=COLOURS[0],
        label="completed",
    )
    axes.step(numbers, so_far, where="post", color=COLOURS[1], linewidth=1.8, label="best so far")
    for state, marker, colour in (("pruned", "|", COLOURS[2]), ("failed", "x", COLOURS[6])):
        places = [trial.number + 1 for trial in found.trials if trial.state == state]
        if places:
            axes.plot(
                places,
                [0.02] * len(places),
                transform=axes.get_xaxis_transform(),
                linestyle="",
                marker=marker,
                markersize=9,
                color=colour,
                label=state,
            )
    heading(axes, f"{asked.learner}: {metric_title(asked.metric)} on validation users")
    axes.set_xlabel("trial")
    axes.set_xlim(0.5, len(found.trials) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(figure, [axes])
    return figure


def _headline(found: Tuning, asked: TuneConfig) -> str:
    best = found.best
    counts = {
        state: sum(trial.state == state for trial in found.trials)
        for state in ("completed", "pruned", "failed")
    }
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return (
        f"Best of {len(found.trials)} trials ({told}): {metric_title(asked.metric)} "
        f"{best.score:.4f} (se {best.se or 0:.4f}) on validation users, trial {best.number + 1}."
    )


def _table(found: Tuning, asked: TuneConfig) -> tuple[list[str], list[list[str]]]:
    """Titles and rows: number, score, standard error, values, and how far from the best."""
    sign = -1.0 if asked.metric in HIGHER_IS_BETTER else 1.0
    scored = [trial for trial in found.trials if trial.score is not None]
    scored.sort(key=lambda trial: sign * (trial.score or 0.0))
    paths = list(found.best.values)
    rows = [
        [
            str(trial.number + 1),
            f"{trial.score:.4f}",
            f"{trial.se or 0:.4f}",
            *(_short(trial.values[path]) for path in paths),
            f"{trial.seconds:.1f}",
        ]
        for trial in scored[:BEST_SHOWN]
    ]
    return ["trial", metric_title(asked.metric), "se", *paths, "seconds"], rows


def _importance_lines(found: Tuning) -> Sequence[str]:
    if not found.importance:
        return []
    told = ", ".join(f"{path} {share:.0%}" for path, share in found.importance.items())
    return [f"What mattered (share of the variance of scores): {told}."]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
