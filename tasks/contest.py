"""The gate's contest: tonight's learners and the champion on the same test tasks."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch

from metarec_core.calibration.ask import stated_on_users
from metarec_core.calibration.drift import watch
from metarec_core.calibration.reliability import STATED_SCHEMA, standing
from metarec_core.episodes.sampling import EvaluationTasks, evaluation_episodes
from metarec_core.episodes.split import Split
from metarec_core.episodes.store import Tasks, load_tasks
from metarec_core.episodes.types import IntArray
from metarec_core.errors import ModelError
from metarec_core.evaluation import (
    ALL_SIZES,
    Adaptable,
    Contestant,
    Verdict,
    align,
    decide,
    evaluate,
    summarise,
)
from metarec_core.learners.modes import PERSONALISED
from metarec_core.schema import Columns
from metarec_core.serving.audience import catalogue_positions, encode_users
from metarec_core.serving.bundle import Bundle, load_bundle
from metarec_core.storage import StageFacts, StageOutput, hash_directory
from metarec_core.training.device import pick_device
from tasks.calibration import figures_of, keep
from tasks.figures import write_figures
from tasks.night import Night
from tasks.tracking import ChampionRef, download_bundle
from tasks.train import TRAINING_REPORT

CHAMPION = "champion"
"""Name of the reigning champion among tonight's learners."""

TASK_FIGURES = "evaluation.parquet"
METRICS = "metrics.parquet"
VERDICT = "verdict.json"


@dataclass(frozen=True, slots=True)
class _Entry:
    """A contestant, and the probabilities of relevance that it states (``STATED_SCHEMA``)."""

    contestant: Contestant
    stated: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Contest:
    """What is read to judge tonight's learners, and the champion among them.

    Attributes:
        night: The run.
        cleaned: Cleaned tables.
        features: Catalogue and encoded features.
        episodes: Tasks.
        trained: A bundle for each learner.
    """

    night: Night
    cleaned: StageOutput
    features: StageOutput
    episodes: StageOutput
    trained: StageOutput

    def judge(self, reigning: ChampionRef | None, out: Path) -> StageFacts:
        """Write figures of tasks, metrics, verdict, calibration and plots into ``out``."""
        config = self.night.config
        torch.set_num_threads(config.training.threads)
        device = pick_device(config.training.device)
        tasks = load_tasks(self.episodes.path, self.features.path)
        sampled = self._sample(tasks)
        entries = [
            self._contestant(name, tasks, sampled, device) for name in config.training.learners
        ]
        contestants = [entry.contestant for entry in entries]
        defender = self._defender(reigning, tasks, device) if reigning else None
        verdict = decide(
            contestants[-1],
            contestants[:-1],
            defender.contestant if defender else None,
            feedback=tasks.data.scale.feedback,
            config=config.gate,
            seed=config.seed,
        )
        if defender and defender.contestant.tasks is not None:
            entries.append(defender)
        frame = pl.concat([entry.contestant.frame for entry in entries])
        metrics = pl.concat([summarise(entry.contestant.frame, entry.stated) for entry in entries])
        frame.write_parquet(out / TASK_FIGURES)
        metrics.write_parquet(out / METRICS)
        (out / VERDICT).write_text(verdict.model_dump_json(indent=2), encoding="utf-8")
        write_figures(out, metrics, self.trained.path / TRAINING_REPORT, tasks)
        self._watch(entries, verdict, reigning, out)
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

    def _watch(
        self, entries: list[_Entry], verdict: Verdict, reigning: ChampionRef | None, out: Path
    ) -> None:
        """Whether the uncertainty holds of whoever is champion from now on."""
        stays = reigning is not None and not verdict.promoted
        name = CHAMPION if stays else verdict.winner
        stated = pl.concat([entry.stated for entry in entries])
        report = watch(
            standing(stated.filter(pl.col("learner") == name)),
            figures_of(reigning) if reigning and stays else {},
            self.night.config.calibration,
            model=f"the champion ({reigning.learner if reigning and stays else name})",
            evidence="tonight's test tasks",
        )
        challenger = self.night.config.training.learners[-1]
        keep(report, stated, list(dict.fromkeys((CHAMPION, name, challenger))), out)

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
    ) -> _Entry:
        directory = self.trained.path / name
        bundle = load_bundle(directory, device)
        figures = evaluate(bundle.learner, sampled, device=device, name=name)
        return _Entry(
            Contestant(name, figures, hash_directory(directory)),
            self._stated(bundle, bundle.learner, tasks, tasks.users(Split.TEST), device, name),
        )

    def _stated(
        self,
        bundle: Bundle,
        learner: Adaptable,
        tasks: Tasks,
        users: IntArray,
        device: torch.device,
        name: str,
    ) -> pl.DataFrame:
        """Probabilities of relevance, on users that no calibration was learned from."""
        episodes = self.night.config.episodes
        return stated_on_users(
            learner,
            bundle.relevance.get(PERSONALISED),
            tasks.data,
            users,
            sizes=episodes.support_sizes,
            max_query=episodes.max_query,
            seed=self.night.config.seed,
            device=device,
            name=name,
        )

    def _defender(self, reigning: ChampionRef, tasks: Tasks, device: torch.device) -> _Entry:
        """The champion on tonight's tasks, with its own catalogue and its own user encoder.

        Files that cannot be read are no verdict: that raises. Files that came back whole, and do
        not work with this code or on this catalogue, are an obstacle.
        """
        figures, stated, obstacle = None, STATED_SCHEMA.to_frame(), ""
        with tempfile.TemporaryDirectory() as scratch:
            files = download_bundle(self.night.store, reigning, Path(scratch))
            try:
                bundle = load_bundle(files, device)
                figures, stated = self._as_it_serves(bundle, tasks, device)
            except ModelError as error:
                obstacle = error.found
        champion = Contestant(reigning.learner, figures, reigning.content_hash, obstacle)
        return _Entry(champion, stated)

    def _as_it_serves(
        self, bundle: Bundle, tasks: Tasks, device: torch.device
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        users = pl.read_parquet(self.cleaned.path / "users.parquet")
        own_features = encode_users(bundle, tasks.user_ids, users)
        own = replace(tasks, data=replace(tasks.data, user_features=own_features))
        learner = align(bundle.learner, catalogue_positions(bundle.catalogue, tasks.catalogue))
        figures = evaluate(learner, self._sample(own), device=device, name=CHAMPION)
        judges = own.users(Split.TEST)
        if bundle.split is not None:
            # Where the fractions have changed, tonight's test users may be those it learned from.
            untrained = np.flatnonzero(bundle.split.judges(tasks.user_ids))
            figures = figures.filter(pl.col("user").is_in(untrained))
            judges = judges[np.isin(judges, untrained)]
        return figures, self._stated(bundle, learner, own, judges, device, CHAMPION)


def _overall(metrics: pl.DataFrame, learner: str) -> dict[str, float]:
    rows = metrics.filter(
        pl.col("learner") == learner, pl.col(Columns.SUPPORT_SIZE) == ALL_SIZES
    ).drop_nulls("value")
    return dict(zip(rows["metric"], rows["value"], strict=True))
