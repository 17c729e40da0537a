"""Search for better settings of a learner; the winner becomes a configuration file."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from metarec_core.config import TuneConfig
from metarec_core.config.describe import describe_settings
from metarec_core.episodes.store import load_tasks
from metarec_core.reporting.figures import save_figure
from metarec_core.reporting.tuning import (
    history_figure,
    trial_line,
    tuning_document,
    tuning_lines,
    tuning_report,
)
from metarec_core.storage import StageFacts, StageOutput, write_json
from metarec_core.training.device import pick_device
from metarec_core.training.search_space import Values
from metarec_core.training.tuning import Trial, study_path, study_settings, trials_done, tune
from tasks.night import Night
from tasks.stage import COMPUTED, Stage, stage
from tasks.tracking import Context, TrackedRun, trial_run
from tasks.train import progress_note

DOCUMENT = "tuning.json"
TABLE = "tuning.txt"
REPORT = "report.md"
HISTORY = "history.png"
WINNER = "winner.yaml"


@task(name="tune", **COMPUTED)
def tune_learner(night: Night, features: StageOutput, episodes: StageOutput) -> StageOutput:
    """The study that ``config.tune`` asks for, its report and its winner.

    Trials are kept below ``home.tuning``, by everything that they depend on: a study that was
    killed, timed out or is asked for more trials goes on. Each trial of this run is an MLflow run
    inside of the stage's.
    """
    config = night.config
    settings = study_settings(config, pick_device(config.training.device))
    data = {one.stage: one.content_hash for one in (features, episodes)}
    storage = study_path(night.home.tuning, settings, data)
    asked = config.tune.model_dump(include={"trials", "timeout_minutes"})
    with stage(night, "tune", settings | {"asked": asked}) as running:
        running.tracked.log_dataset(episodes, name="episodes", context=Context.TRAINING)
        output = running.build(
            lambda out, _: _search(running, features, episodes, storage, out),
            inputs=[features, episodes],
            # The study is an input too: a report of fewer trials is not found again.
            fingerprint=f"{storage.parent.name} {trials_done(storage)}",
        )
        for name in (DOCUMENT, TABLE, REPORT, HISTORY, WINNER):
            running.tracked.log_file(output.path / name)
    night.record_paths(tuning=str(output.path), winner=str(output.path / WINNER))
    _tell(night, output.path)
    return output


def _search(
    running: Stage, features: StageOutput, episodes: StageOutput, storage: Path, out: Path
) -> StageFacts:
    config = running.night.config
    torch.set_num_threads(config.training.threads)
    before = trials_done(storage)
    if before:
        get_run_logger().info("%d trials are done already: %s", before, storage)
    with _Shown(running) as shown:
        found = tune(
            load_tasks(episodes.path, features.path),
            config,
            device=pick_device(config.training.device),
            storage=storage,
            watch=shown.trial,
        )
    write_json(out / DOCUMENT, tuning_document(found, config.tune, config.seed))
    lines = tuning_lines(found, config.tune)
    (out / TABLE).write_text("\n".join(lines), encoding="utf-8")
    (out / REPORT).write_text(tuning_report(found, config.tune), encoding="utf-8")
    (out / WINNER).write_text(describe_settings(found.winner) + "\n", encoding="utf-8")
    save_figure(history_figure(found, config.tune), out / HISTORY)
    return StageFacts(
        rows_in=episodes.rows_out,
        rows_out=len(found.trials),
        facts={
            "best": {config.tune.metric: found.best.score},
            "pruned": sum(trial.state == "pruned" for trial in found.trials),
            "failed": sum(trial.state == "failed" for trial in found.trials),
        },
    )


class _Shown:
    """Trials as a bar on a terminal, a line each in the log, and runs in MLflow."""

    def __init__(self, running: Stage) -> None:
        self._running = running
        self._asked = running.night.config.tune
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
        self._bars = Progress(*columns, TimeRemainingColumn(), disable=not sys.stderr.isatty())
        name = f"tuning {self._asked.learner}"
        self._line = self._bars.add_task(name, total=self._asked.trials, note="")

    def __enter__(self) -> _Shown:
        self._bars.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._bars.stop()

    @contextmanager
    def trial(self, number: int, values: Values) -> Iterator[_ShownTrial]:
        """An MLflow run, open for as long as the trial."""
        parent = self._running.tracked
        with trial_run(parent.store, parent.run_id, number, values) as tracked:
            yield _ShownTrial(tracked, self._asked, self._bars, self._line)


@dataclass(frozen=True, slots=True)
class _ShownTrial:
    tracked: TrackedRun
    asked: TuneConfig
    bars: Progress
    line: TaskID

    def epoch(self, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        self.tracked.log_epoch(step, metrics)
        self.bars.update(self.line, note=progress_note(step, steps, metrics))

    def ended(self, trial: Trial) -> None:
        figures: dict[str, Any] = {"seconds": trial.seconds, "epochs": trial.epochs}
        if trial.score is not None:
            figures[self.asked.metric] = trial.score
        self.tracked.log_metrics(figures)
        self.tracked.set_tags({"trial": trial.state, "error": trial.error})
        self.bars.update(self.line, completed=trial.number + 1)
        get_run_logger().info("%s", trial_line(trial, self.asked))


def _tell(night: Night, place: Path) -> None:
    text = (place / REPORT).read_text(encoding="utf-8")
    text += f"\nThe winner: `metarec run --config {place / WINNER}`\n"
    summary = Path(str(night.status.paths.summary))
    summary.parent.mkdir(parents=True, exist_ok=True)
    summary.write_text(text, encoding="utf-8")
    night.tracked.describe(text)
    create_markdown_artifact(text, key="tuning", description="Tuning")
