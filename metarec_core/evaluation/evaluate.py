"""A learner's figures on evaluation tasks, one row a task."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import polars as pl
import torch
from torch import Tensor

from metarec_core.episodes.sampling import EvaluationBatch, EvaluationTasks
from metarec_core.episodes.types import Support, TaskData
from metarec_core.errors import ModelError
from metarec_core.evaluation import metrics
from metarec_core.learners.base import Predictor
from metarec_core.schema import Columns, segment

RANK_CUT = 10
RECALL_CUT = 20

TASK_SCHEMA = pl.Schema(
    {
        "learner": pl.String(),
        "user": pl.Int64(),
        Columns.SUPPORT_SIZE: pl.Int64(),
        Columns.SEGMENT: pl.String(),
        "n_query": pl.Int64(),
        "n_relevant": pl.Int64(),
        "mae": pl.Float64(),
        "rmse": pl.Float64(),
        "nll": pl.Float64(),
        "coverage_50": pl.Float64(),
        "coverage_90": pl.Float64(),
        "ndcg_at_10": pl.Float64(),
        "recall_at_20": pl.Float64(),
        "top_10": pl.List(pl.Int32()),
        "catalogue_size": pl.Int64(),
    }
)
"""One evaluated task. ``user`` is the row index in the task data; ``n_relevant`` the targets;
``top_10`` the catalogue indices of the head of the ranking, best first."""

_METRICS = ("mae", "rmse", "nll", "coverage_50", "coverage_90", "ndcg_at_10", "recall_at_20")
_CELLS_AT_ONCE = 2**22
"""Scores held at a time (users x catalogue); about 150 MB with the keys that order them."""


class Adaptable(Protocol):
    """What evaluation needs of a learner."""

    @property
    def name(self) -> str:
        """Its name in tables and figures."""
        ...

    def adapt(self, support: Support) -> Predictor:
        """Learn a batch of users from their supports."""
        ...


def evaluate(
    learner: Adaptable,
    data: TaskData,
    tasks: EvaluationTasks,
    *,
    device: torch.device,
    batch_size: int = 512,
    name: str | None = None,
    rank_reserved: bool = True,
) -> pl.DataFrame:
    """Adapt a learner to each task's support and judge it on the task's query.

    Errors and calibration are those of the query values. Ranking is full: every catalogue item
    but the support competes, and the query items whose value is at least
    ``data.scale.relevant_from`` are the targets.

    What to do with *reserved* items, which the user met but which are neither in this support
    nor in the query, is a choice. Ranked, they count as misses though the user may well like
    them, and fewer of them are left the larger the support is: figures rise with the support
    size even for a learner that does not adapt. Left out, the same items compete at every size,
    and such a learner scores the same at each. Comparisons at one size are paired either way.

    Args:
        learner: A fitted learner, or a champion aligned to this catalogue.
        data: What the tasks were sampled from.
        tasks: The tasks; the same for each learner that is to be compared.
        device: Where tensors live.
        batch_size: Most tasks scored at once; large catalogues lower it.
        name: Name in the ``learner`` column; the learner's own by default.
        rank_reserved: Whether reserved items compete.

    Returns:
        A frame of :data:`TASK_SCHEMA`, sorted by support size and user. Figures are null, not
        zero, where they do not exist: errors of a learner that predicts no value for some query
        item, ranking of a task without a target.

    Raises:
        ModelError: If a list score is NaN.
    """
    label = name if name is not None else learner.name
    size = max(1, min(batch_size, _CELLS_AT_ONCE // max(1, data.n_items)))
    parts = [
        _judge(
            learner, batch, data, label=label, device=device, rank_reserved=rank_reserved
        ).with_columns(learner=pl.lit(label))
        for batch in tasks.batches(size)
    ]
    if not parts:
        return TASK_SCHEMA.to_frame()
    frame = pl.concat(parts).with_columns(
        pl.col(*_METRICS).fill_nan(None),
        catalogue_size=pl.lit(data.n_items, dtype=pl.Int64),
    )
    return (
        frame.select(pl.col(column).cast(kind) for column, kind in TASK_SCHEMA.items())
        .sort(Columns.SUPPORT_SIZE, "user")
        .rechunk()
    )


def _judge(
    learner: Adaptable,
    batch: EvaluationBatch,
    data: TaskData,
    *,
    label: str,
    device: torch.device,
    rank_reserved: bool,
) -> pl.DataFrame:
    episode = batch.episode.to(device)
    predictor = learner.adapt(episode.support)
    with torch.no_grad():
        scores = predictor.scores()
        if scores.isnan().any():
            raise ModelError(
                f"learner {label!r}",
                found="NaN among its list scores",
                wanted="a number for each catalogue item",
                next_step="look at its training curves for divergence; lower its learning rate",
            )
        excluded = _excluded(batch, data, rank_reserved=rank_reserved).to(device)
        top = metrics.top_items(scores, excluded, RECALL_CUT)
        mean, variance = predictor.mean_var(episode.items)
    relevant = episode.mask & (episode.values >= data.scale.relevant_from)
    n_relevant = relevant.sum(dim=1)
    ranked = metrics.hits(top, episode.items, relevant)
    truth = (episode.values, episode.mask)
    figures = {
        "mae": metrics.absolute_error(mean, *truth),
        "rmse": metrics.root_squared_error(mean, *truth),
        "nll": metrics.gaussian_nll(mean, variance, *truth),
        "coverage_50": metrics.interval_coverage(mean, variance, *truth, level=0.5),
        "coverage_90": metrics.interval_coverage(mean, variance, *truth, level=0.9),
        "ndcg_at_10": metrics.ndcg(ranked, n_relevant, RANK_CUT),
        "recall_at_20": metrics.recall(ranked, n_relevant, RECALL_CUT),
        "n_query": episode.mask.sum(dim=1),
        "n_relevant": n_relevant,
        "top_10": top[:, :RANK_CUT].to(torch.int32),
    }
    sizes = np.asarray(batch.support_size, dtype=np.int64)
    return pl.DataFrame(
        {
            "user": np.asarray(batch.users, dtype=np.int64),
            Columns.SUPPORT_SIZE: sizes,
            Columns.SEGMENT: [segment(size) for size in sizes.tolist()],
            **{name: _array(values) for name, values in figures.items()},
        },
        # A fixed-width array becomes a list whose length may differ between catalogues.
        schema_overrides={"top_10": pl.List(pl.Int32())},
    )


def _excluded(batch: EvaluationBatch, data: TaskData, *, rank_reserved: bool) -> Tensor:
    """Items that do not compete, ``[B, I]`` bool."""
    episode = batch.episode
    excluded = torch.zeros(len(batch.users), data.n_items, dtype=torch.bool)
    if rank_reserved:
        rows, columns = episode.support.mask.nonzero(as_tuple=True)
        excluded[rows, episode.support.items[rows, columns]] = True
    else:
        users, positions = data.interactions.entries(batch.users)
        excluded[torch.from_numpy(users), torch.from_numpy(data.interactions.items[positions])] = (
            True
        )
        rows, columns = episode.mask.nonzero(as_tuple=True)
        excluded[rows, episode.items[rows, columns]] = False
    return excluded


def _array(values: Tensor) -> np.ndarray:
    return values.cpu().numpy()
