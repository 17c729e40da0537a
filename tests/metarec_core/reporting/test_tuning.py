"""A study is told in lines, in Markdown and in a picture that agree."""

from __future__ import annotations

import json
from pathlib import Path

from metarec_core.config import Config, TuneConfig
from metarec_core.reporting.figures import save_figure
from metarec_core.reporting.tuning import (
    history_figure,
    trial_line,
    tuning_document,
    tuning_lines,
    tuning_report,
)
from metarec_core.training.tuning import Trial, Tuning

ASKED = TuneConfig(learner="ease", trials=9)


def trial(number: int, score: float | None, state="completed", error: str | None = None) -> Trial:
    values = {"ridge": 100.0 * number + 0.123456, "popularity": 0.5}
    return Trial(number, state, values, score, 0.01 if score else None, 4, 1.25, error)


STUDY = Tuning(
    trials=(
        trial(0, 0.30),
        trial(1, 0.45),
        trial(2, None, "pruned"),
        trial(3, 0.41),
        trial(4, None, "failed", "fit: found NaN"),
    ),
    best=trial(1, 0.45),
    importance={"ridge": 0.9, "popularity": 0.1},
    winner=Config(),
)


def test_the_best_trials_come_first_and_the_stopped_ones_are_counted() -> None:
    head, _, titles, *rows = tuning_lines(STUDY, ASKED)
    assert "Best of 5 trials (3 completed, 1 pruned, 1 failed)" in head
    assert "NDCG@10 0.4500 (se 0.0100) on validation users, trial 2" in head
    assert titles.split() == ["trial", "NDCG@10", "se", "ridge", "popularity", "seconds"]
    assert [row.split()[0] for row in rows[:3]] == ["2", "4", "1"]
    assert rows[0].split()[1:] == ["0.4500", "0.0100", "100.1", "0.5", "1.2"]
    assert "ridge 90%, popularity 10%" in rows[-1]
    text = tuning_report(STUDY, ASKED)
    assert head in text
    assert "| 2 | 0.4500 | 0.0100 | 100.1 | 0.5 | 1.2 |" in text


def test_where_less_is_better_the_least_comes_first() -> None:
    rows = tuning_lines(STUDY, TuneConfig(learner="ease", metric="mae"))[3:6]
    assert [row.split()[0] for row in rows] == ["1", "4", "2"]


def test_a_line_says_what_became_of_a_trial() -> None:
    assert "trial 3/9 pruned after 4 epochs in 1.2 s; ridge=200.1" in trial_line(
        STUDY.trials[2], ASKED
    )
    assert "fit: found NaN" in trial_line(STUDY.trials[4], ASKED)


def test_the_document_is_json_with_every_trial() -> None:
    found = json.loads(json.dumps(tuning_document(STUDY, ASKED, 7)))
    assert found["best"]["number"] == 1
    assert [one["state"] for one in found["trials"]].count("completed") == 3
    assert (found["learner"], found["metric"], found["seed"]) == ("ease", "ndcg_at_10", 7)


def test_the_figure_shows_trials_and_the_best_so_far(tmp_path: Path) -> None:
    figure = history_figure(STUDY, ASKED)
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["completed"].get_xdata()) == [1, 2, 4]
    assert list(lines["best so far"].get_ydata()) == [0.30, 0.45, 0.45]
    assert list(lines["pruned"].get_xdata()) == [3]
    assert list(lines["failed"].get_xdata()) == [5]
    save_figure(figure, tmp_path / "history.png")
    save_figure(history_figure(STUDY, ASKED), tmp_path / "again.png")
    assert (tmp_path / "history.png").read_bytes() == (tmp_path / "again.png").read_bytes()
