"""Candidate pools of tasks whose outcome is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from metarec_core.episodes.batch import EvaluationBatch, JudgedTasks
from metarec_core.episodes.types import IntArray
from metarec_core.errors import ModelError
from metarec_core.evaluation.evaluate import Adaptable
from metarec_core.evaluation.metrics import top_items
from metarec_core.learners.base import UncertainScores
from metarec_core.ranking.diversity.pool import BoolArray, Pool
from metarec_core.ranking.diversity.taste import liked
from metarec_core.ranking.grid import on_grid

_CELLS_AT_ONCE = 2**23
"""Numbers held at a time: scores (users x catalogue) and covariances (users x pool x pool)."""


@dataclass(frozen=True, slots=True)
class JudgedPool:
    """Candidates of a batch of tasks, and what each user turned out to like.

    Attributes:
        pool: The candidates of ``B`` tasks.
        targets: Catalogue indices, ``[B, Q]`` int64, each once a row.
        target_mask: Which of them are targets, ``[B, Q]`` bool; among the candidates or not.
    """

    pool: Pool
    targets: IntArray
    target_mask: BoolArray


def judged_pools(
    learner: Adaptable,
    tasks: JudgedTasks,
    *,
    size: int,
    device: torch.device,
    liked_from: float | None,
    batch_size: int = 256,
) -> Iterator[JudgedPool]:
    """The best ``size`` items of every task that compete in its ranking.

    The same items compete, and the same are targets, as in
    :func:`metarec_core.evaluation.evaluate.evaluate`. Pools hold the covariance where the learner
    has one.

    Args:
        learner: A fitted learner.
        tasks: Tasks in which the catalogue is ranked, such as those of the validation users.
        size: Most candidates.
        device: Where scores are computed.
        liked_from: Value from which an interaction speaks of the user's taste, see
            :func:`metarec_core.ranking.diversity.taste.liked_from`; None: every one does.
        batch_size: Most tasks at once; a large catalogue or pool lowers it.

    Raises:
        ModelError: If a score is NaN or infinite.
    """
    largest = max(tasks.n_items, min(size, tasks.n_items) ** 2, 1)
    for batch in tasks.batches(max(1, min(batch_size, _CELLS_AT_ONCE // largest))):
        yield _judged(learner, batch, size, device, liked_from)


@torch.no_grad()
def _judged(
    learner: Adaptable,
    batch: EvaluationBatch,
    size: int,
    device: torch.device,
    liked_from: float | None,
) -> JudgedPool:
    assert batch.excluded is not None, "the catalogue competes, not the query alone"
    episode = batch.episode.to(device)
    predictor = learner.adapt(episode.support)
    scores = on_grid(predictor.scores().double())
    if not bool(scores.isfinite().all()):
        raise ModelError(
            f"learner {learner.name}",
            found="scores that are NaN or infinite",
            wanted="finite scores",
            next_step="train it again; a learning rate that is too high can do this",
        )
    excluded = batch.excluded.to(device)
    items = top_items(scores, excluded, size)
    found = scores.gather(1, items).masked_fill(excluded.gather(1, items), -torch.inf)
    # Candidates are chosen in float32; among themselves they stand in the order of float64.
    items, by_item = items.sort(dim=1)
    found, by_score = found.gather(1, by_item).sort(dim=1, descending=True, stable=True)
    items = items.gather(1, by_score)
    covariance = (
        predictor.score_covariance(items).cpu().numpy()
        if isinstance(predictor, UncertainScores)
        else None
    )
    there = found > -torch.inf
    known = episode.support.mask.cpu().numpy()
    return JudgedPool(
        pool=Pool(
            items=items.masked_fill(~there, -1).cpu().numpy(),
            scores=found.cpu().numpy(),
            history=episode.support.items.cpu().numpy(),
            history_mask=known,
            covariance=covariance,
            users=np.asarray(batch.users, dtype=np.int64),
            liked=liked(episode.support.values.cpu().numpy(), known, liked_from),
        ),
        targets=episode.items.cpu().numpy(),
        target_mask=batch.targets.cpu().numpy(),
    )
