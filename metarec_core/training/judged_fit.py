"""One fit of the learner in tuning, judged on validation users."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch

from metarec_core.config import Config
from metarec_core.episodes.sampling import evaluation_episodes
from metarec_core.episodes.split import Split
from metarec_core.episodes.store import Tasks
from metarec_core.errors import CatalogueTooLargeError, ConfigError
from metarec_core.evaluation import ALL_SIZES, evaluate, summarise
from metarec_core.learners.average import Average
from metarec_core.learners.base import FitContext, Learner
from metarec_core.learners.registry import learner_class, learner_names
from metarec_core.schema import Columns
from metarec_core.section import Section

Progress = Callable[[int, int, Mapping[str, float]], None]


@dataclass(frozen=True, slots=True)
class Score:
    """A mean over validation users.

    Attributes:
        value: The configured metric.
        se: Its standard error over users.
    """

    value: float
    se: float


class JudgedFits:
    """Fits the learner that ``config.tune`` names, and judges it on validation users.

    The learner fits on the users of the training part; test users are never read. Validation
    users choose the epoch of a network *and* judge the trial, so that scores flatter a little,
    all trials alike: only the test users of a night tell how good the winner is. ``average``
    learns its own weights on validation users, where the least smoothing would always seem best:
    every other validation user is kept from it, and they alone judge.

    Args:
        tasks: The dataset's users.
        config: Every setting.
        device: Where tensors live.
    """

    def __init__(self, tasks: Tasks, config: Config, device: torch.device) -> None:
        self._tasks = tasks
        self._config = config
        self._device = device
        self._kind = learner_class(config.tune.learner)
        users = tasks.users(Split.VALIDATION)
        apart = self._kind is Average
        self._choosing = users[1::2] if apart else users
        self.judging = users[0::2] if apart else users
        self._members: dict[str, Learner] | None = None

    def score(self, section: Section, progress: Progress | None) -> Score:
        """Fit under ``section`` and judge.

        Raises:
            ConfigError: If the learner has no figure of the metric.
            ModelError: If it cannot be fitted.
        """
        config = self._config
        train = self._tasks.part(Split.TRAIN)
        learner = self._kind(section)
        learner.fit(train, self._tasks.data.select(self._choosing), self._context(progress))
        episodes = evaluation_episodes(
            self._tasks.data,
            self.judging,
            support_sizes=config.episodes.support_sizes,
            max_query=config.episodes.max_query,
            seed=config.seed,
        )
        figures = summarise(evaluate(learner, episodes, device=self._device))
        found = figures.filter(
            (pl.col("metric") == config.tune.metric) & (pl.col(Columns.SUPPORT_SIZE) == ALL_SIZES)
        ).row(0, named=True)
        if found["value"] is None or not np.isfinite(found["value"]):
            raise ConfigError(
                "setting tune.metric",
                found=f"{config.tune.metric!r}, which {config.tune.learner!r} has no figure of",
                wanted="a metric of what the learner does: lists (ndcg_at_10) or values (mae)",
                next_step="set the other one",
            )
        return Score(float(found["value"]), float(found["se"] or 0.0))

    def _context(self, progress: Progress | None) -> FitContext:
        config = self._config
        return FitContext(
            seed=config.seed,
            device=self._device,
            max_support=config.episodes.max_support,
            max_query=config.episodes.max_query,
            progress=progress,
            settings={name: getattr(config.learners, name) for name in learner_names()},
            fitted=self._fitted(),
        )

    def _fitted(self) -> Mapping[str, Learner]:
        """The members of an average, fitted once: no trial changes their settings."""
        if self._kind is not Average:
            return {}
        if self._members is None:
            self._members = {}
            context = FitContext(
                seed=self._config.seed,
                device=self._device,
                max_support=self._config.episodes.max_support,
                max_query=self._config.episodes.max_query,
            )
            train = self._tasks.part(Split.TRAIN)
            choosing = self._tasks.data.select(self._choosing)
            for name in dict.fromkeys(getattr(self._config.learners, Average.name).members):
                member = learner_class(name)(getattr(self._config.learners, name))
                try:
                    member.fit(train, choosing, context)
                except CatalogueTooLargeError:
                    continue  # the average itself says that it does without
                self._members[name] = member
        return self._members
