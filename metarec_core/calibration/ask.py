"""Ask a model about users that it was not calibrated on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch

from metarec_core.calibration.pairs import collect, held_out_tasks
from metarec_core.calibration.relevance import RelevanceCalibration
from metarec_core.calibration.reliability import STATED_SCHEMA, stated_frame
from metarec_core.calibration.sizes import Integers
from metarec_core.episodes.batch import JudgedTasks
from metarec_core.episodes.types import TaskData, ValueScale
from metarec_core.evaluation.evaluate import Adaptable

MOST_USERS = 2000
"""Users that suffice to see an error of a hundredth; of more, so many are drawn."""


def stated_on_users(
    learner: Adaptable,
    calibration: RelevanceCalibration | None,
    data: TaskData,
    users: Integers,
    *,
    sizes: Sequence[int],
    max_query: int,
    seed: int,
    device: torch.device,
    name: str,
) -> pl.DataFrame:
    """What a model states about held-out interactions of ``users``, and what came.

    Args:
        learner: A fitted learner, or one aligned to this catalogue.
        calibration: Its calibration; None states nothing.
        data: Where users live.
        users: Rows of users whom the learner has not met.
        sizes: Support sizes.
        max_query: Most interactions of a query.
        seed: Seed of the tasks.
        device: Where the learner computes.
        name: Name in the ``learner`` column.

    Returns:
        ``STATED_SCHEMA``, empty where nothing is stated.
    """
    drawn = some(users, seed)
    tasks = held_out_tasks(data, drawn, sizes=sizes, seed=seed, max_query=max_query)
    return stated_on_tasks(learner, calibration, tasks, data.scale, device=device, name=name)


def stated_on_tasks(
    learner: Adaptable,
    calibration: RelevanceCalibration | None,
    tasks: JudgedTasks,
    scale: ValueScale,
    *,
    device: torch.device,
    name: str,
) -> pl.DataFrame:
    """The same about given tasks.

    Args:
        learner: A fitted learner.
        calibration: Its calibration; None states nothing.
        tasks: What is asked.
        scale: What values mean.
        device: Where the learner computes.
        name: Name in the ``learner`` column.

    Returns:
        ``STATED_SCHEMA``, empty where nothing is stated.
    """
    if calibration is None:
        return STATED_SCHEMA.to_frame()
    pairs = collect(
        learner,
        tasks,
        feedback=scale.feedback,
        relevant_from=scale.relevant_from,
        device=device,
    )
    return stated_frame(name, pairs, calibration)


def some(users: Integers, seed: int) -> Integers:
    """At most :data:`MOST_USERS` of ``users``, drawn at random, in their order."""
    if len(users) <= MOST_USERS:
        return users
    return np.sort(np.random.default_rng(seed).choice(users, MOST_USERS, replace=False))
