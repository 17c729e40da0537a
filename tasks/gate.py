"""Judge the challenger on test tasks, register it, and move the champion if the rule holds."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from prefect import task
from prefect.logging import get_run_logger

from metarec_core.episodes.sampling import EvaluationTasks, evaluation_episodes
from metarec_core.episodes.split import Split
from metarec_core.episodes.store import Tasks, load_tasks
from metarec_core.errors import ModelError
from metarec_core.evaluation import (
    ALL_SIZES,
    Contestant,
    Verdict,
    align,
    decide,
    evaluate,
    summarise,
)
from metarec_core.ingest.descriptor import load_descriptor
from metarec_core.reporting.status import ChampionStatus, GateStatus
from metarec_core.schema import Columns
from metarec_core.serving.audience import catalogue_positions, encode_users
from metarec_core.serving.bundle import Bundle, load_bundle
from metarec_core.storage import StageFacts, StageOutput, hash_directory
from metarec_core.training.device import pick_device
from tasks.figures import write_figures
from tasks.night import Night
from tasks.stage import COMPUTED, RETRIED, Stage, stage
from tasks.tracking import (
    ChampionRef,
    Context,
    download_bundle,
    promote,
    register_challenger,
    require_same_dataset,
)
from tasks.train import TRAINING_REPORT

TASK_FIGURES = "evaluation.parquet"
METRICS = "metrics.parquet"
VERDICT = "verdict.json"


@task(name="gate", **COMPUTED)
def gate(
    night: Night,
    cleaned: StageOutput,
    features: StageOutput,
    episodes: StageOutput,
    trained: StageOutput,
) -> ChampionRef:
    """Decide, register the challenger, move the alias, and return who is champion now.

    Raises:
        ModelError: If the champion serves another dataset.
        StorageError: If the champion's files cannot be read: it is not judged unread.
        ServiceError: If MLflow does not answer, or the champion changed meanwhile.
    """
    config = night.config
    reigning = champion_of_dataset(night)
    settings = {
        "gate": config.gate.model_dump(mode="json"),
        "support_sizes": list(config.episodes.support_sizes),
        "max_query": config.episodes.max_query,
        "learners": list(config.training.learners),
        "seed": config.seed,
        "champion": reigning.content_hash if reigning else None,
    }
    with stage(night, "gate", settings) as running:
        running.tracked.log_dataset(episodes, name="episodes", context=Context.EVALUATION)
        output = running.build(
            lambda out, _: _Contest(night, cleaned, features, episodes, trained).judge(
                reigning, out
            ),
            inputs=[cleaned, features, episodes, trained],
        )
        for figure in sorted(output.path.glob("*.png")):
            running.tracked.log_file(figure, "figures")
        running.tracked.log_file(output.path / VERDICT)
        verdict = read_verdict(output)
        night.tracked.log_metrics({"test": output.facts["test"]})
        ruling = _apply(running, trained, output, verdict, reigning)
    night.record(
        champion=ChampionStatus(
            version=str(ruling.version), learner=ruling.learner, metrics=ruling.metrics
        ),
        gate=GateStatus(verdict=verdict.verdict, reason=verdict.reason, remark=verdict.remark),
    )
    get_run_logger().info("gate: %s. %s %s", verdict.verdict, verdict.reason, verdict.remark)
    return ruling


def champion_of_dataset(night: Night) -> ChampionRef | None:
    """The champion; None if nothing was ever promoted. To be asked before anything is trained.

    Raises:
        ModelError: If it serves another dataset than the night's.
    """
    return require_same_dataset(night.store, load_descriptor(night.config.dataset.name).name)


@task(name="champion", **RETRIED)
def reigning_champion(night: Night) -> ChampionRef:
    """The champion as it is.

    Raises:
        ModelError: If nothing was ever promoted, or it serves another dataset.
    """
    found = champion_of_dataset(night)
    if found is None:
        raise ModelError(
            "models:/metarec@champion",
            found="no champion yet",
            wanted="a model that passed the gate",
            next_step="run the flow 'nightly' or 'train' once ('metarec run')",
        )
    night.record(
        champion=ChampionStatus(
            version=str(found.version), learner=found.learner, metrics=found.metrics
        )
    )
    return found


def read_verdict(output: StageOutput) -> Verdict:
    """The verdict that a gate stage wrote."""
    return Verdict.model_validate_json((output.path / VERDICT).read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class _Contest:
    """What is read to judge."""

    night: Night
    cleaned: StageOutput
    features: StageOutput
    episodes: StageOutput
    trained: StageOutput

    def judge(self, reigning: ChampionRef | None, out: Path) -> StageFacts:
        config = self.night.config
        torch.set_num_threads(config.training.threads)
        device = pick_device(config.training.device)
        tasks = load_tasks(self.episodes.path, self.features.path)
        sampled = self._sample(tasks)
        contestants = [
            self._contestant(name, tasks, sampled, device) for name in config.training.learners
        ]
        defender = self._defender(reigning, tasks, device) if reigning else None
        verdict = decide(
            contestants[-1],
            contestants[:-1],
            defender,
            feedback=tasks.data.scale.feedback,
            config=config.gate,
            seed=config.seed,
        )
        judged = [item for item in (*contestants, defender) if item and item.tasks is not None]
        frame = pl.concat([contestant.frame for contestant in judged])
        metrics = summarise(frame)
        frame.write_parquet(out / TASK_FIGURES)
        metrics.write_parquet(out / METRICS)
        (out / VERDICT).write_text(verdict.model_dump_json(indent=2), encoding="utf-8")
        write_figures(out, metrics, self.trained.path / TRAINING_REPORT, tasks)
        return StageFacts(
            rows_in=len(sampled),
            rows_out=len(frame),
            facts={
                "verdict": verdict.verdict,
                "winner": verdict.winner,
                "test": {
                    name: _overall(metrics, name) for name in metrics["learner"].unique().sort()
                },
            },
        )

    def _sample(self, tasks: Tasks) -> EvaluationTasks:
        episodes = self.night.config.episodes
        return evaluation_episodes(
            tasks.data,
            tasks.users(Split.TEST),
            support_sizes=episodes.support_sizes,
            max_query=episodes.max_query,
            seed=self.night.config.seed,
            rank_reserved=False,
        )

    def _contestant(
        self, name: str, tasks: Tasks, sampled: EvaluationTasks, device: torch.device
    ) -> Contestant:
        directory = self.trained.path / name
        learner = load_bundle(directory, device).learner
        figures = evaluate(learner, sampled, device=device, name=name)
        return Contestant(name, figures, hash_directory(directory))

    def _defender(self, reigning: ChampionRef, tasks: Tasks, device: torch.device) -> Contestant:
        """The champion on tonight's tasks, with its own catalogue and its own user encoder.

        Files that cannot be read are no verdict: that raises. Files that came back whole, and do
        not work with this code or on this catalogue, are an obstacle.
        """
        figures, obstacle = None, ""
        with tempfile.TemporaryDirectory() as scratch:
            files = download_bundle(self.night.store, reigning, Path(scratch))
            try:
                figures = self._as_it_serves(load_bundle(files, device), tasks, device)
            except ModelError as error:
                obstacle = error.found
        return Contestant(reigning.learner, figures, reigning.content_hash, obstacle)

    def _as_it_serves(self, bundle: Bundle, tasks: Tasks, device: torch.device) -> pl.DataFrame:
        users = pl.read_parquet(self.cleaned.path / "users.parquet")
        own_features = encode_users(bundle, tasks.user_ids, users)
        own = replace(tasks, data=replace(tasks.data, user_features=own_features))
        learner = align(bundle.learner, catalogue_positions(bundle.catalogue, tasks.catalogue))
        figures = evaluate(learner, self._sample(own), device=device, name="champion")
        if bundle.split is None:
            return figures
        # Where the fractions have changed, tonight's test users may be those it was trained on.
        untrained = np.flatnonzero(bundle.split.judges(tasks.user_ids))
        return figures.filter(pl.col("user").is_in(untrained))


def _overall(metrics: pl.DataFrame, learner: str) -> dict[str, float]:
    rows = metrics.filter(
        pl.col("learner") == learner, pl.col(Columns.SUPPORT_SIZE) == ALL_SIZES
    ).drop_nulls("value")
    return dict(zip(rows["metric"], rows["value"], strict=True))


def _apply(
    running: Stage,
    trained: StageOutput,
    output: StageOutput,
    verdict: Verdict,
    reigning: ChampionRef | None,
) -> ChampionRef:
    """Register the challenger, and the winner if it is another; move the alias if so decided."""
    night = running.night
    challenger = night.config.training.learners[-1]
    registered = {
        name: register_challenger(
            night.store,
            trained.path / name,
            run_id=night.tracked.run_id,
            learner=name,
            stage_key=trained.key,
            run_date=night.run_date,
            metrics=output.facts["test"][name],
        )
        # The challenger last: the alias stays with it.
        for name in dict.fromkeys((verdict.winner, challenger))
        if name == challenger or verdict.promoted
    }
    if verdict.promoted:
        return promote(night.store, registered[verdict.winner].version, over=reigning)
    # The rule promotes someone where nobody reigns.
    assert reigning is not None
    return reigning
