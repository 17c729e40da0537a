"""What a learner says of pairs that it has not seen, and what came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from metarec_core.calibration.relevance import HEAD, NEXT, Basis, RelevanceCalibration
from metarec_core.calibration.sizes import Doubles, Integers
from metarec_core.episodes.batch import EvaluationBatch, JudgedTasks
from metarec_core.episodes.sampling import evaluation_episodes
from metarec_core.episodes.types import TaskData
from metarec_core.evaluation.align import UNKNOWN_SCORE
from metarec_core.evaluation.evaluate import Adaptable
from metarec_core.learners.base import Predictor
from metarec_core.schema import Feedback

QUERY = 32
"""Most pairs of a task: more users teach more than more pairs of the same ones."""

_TASKS_AT_ONCE = 256
_CELLS_AT_ONCE = 1 << 22


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of a user and an item that the learner was asked about.

    Attributes:
        users: Row of the user in the data, ``[N]`` int64.
        sizes: Support sizes, ``[N]`` int64.
        scores: List scores, ``[N]`` float64.
        mean: Predicted values, ``[N]`` float64; NaN from a learner that predicts none.
        variance: Their predictive variances, ``[N]``.
        values: What came, ``[N]`` float64; NaN where nothing did.
        relevant: Whether the pair's event took place, ``[N]`` bool.
    """

    users: Integers
    sizes: Integers
    scores: Doubles
    mean: Doubles
    variance: Doubles
    values: Doubles
    relevant: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.users)

    def of(self, chosen: npt.NDArray[np.bool_]) -> Pairs:
        """Some of the pairs."""
        return Pairs(*(getattr(self, one.name)[chosen] for one in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[Pairs]) -> Pairs:
        """The pairs of all parts, one after the other."""
        return cls(
            *(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(cls))
        )

    def stated_by(self, calibration: RelevanceCalibration) -> Doubles:
        """Calibrated probability of each pair, ``[N]``."""
        return calibration.p_relevant(
            mean=self.mean[:, None],
            variance=self.variance[:, None],
            scores=self.scores[:, None],
            support_sizes=self.sizes,
        )[:, 0]


def held_out_tasks(
    data: TaskData, users: Integers, *, sizes: Sequence[int], seed: int, max_query: int = QUERY
) -> JudgedTasks:
    """Tasks whose queries show whether probabilities hold.

    With implicit feedback a query is :data:`NEXT` interactions that are not in the support; all
    items but the support compete.

    Args:
        data: Where users live.
        users: Rows of the users to ask.
        sizes: Support sizes wanted.
        seed: Seed of the shuffle.
        max_query: Most interactions of a query, with explicit feedback.
    """
    explicit = data.scale.feedback is Feedback.EXPLICIT
    return evaluation_episodes(
        data, users, support_sizes=sizes, max_query=max_query if explicit else NEXT, seed=seed
    )


@torch.no_grad()
def collect(
    learner: Adaptable,
    tasks: JudgedTasks,
    *,
    feedback: Feedback,
    relevant_from: float,
    device: torch.device,
) -> Pairs:
    """Ask a learner about tasks.

    With explicit feedback pairs are those of the queries, with implicit feedback the
    :data:`~metarec_core.calibration.relevance.HEAD` best items of each list, relevant if the query
    holds them; there tasks with fewer than ``NEXT`` query interactions are left out.

    Args:
        learner: A fitted learner, or one aligned to this catalogue; pairs with items that it does
            not know are left out.
        tasks: What is asked.
        feedback: What values mean.
        relevant_from: Values from here on are relevant.
        device: Where tensors live.
    """
    at_once = max(1, min(_TASKS_AT_ONCE, _CELLS_AT_ONCE // max(1, tasks.n_items)))
    ask = _of_query if feedback is Feedback.EXPLICIT else _of_list
    parts: list[tuple[np.ndarray, ...]] = []
    for batch in tasks.batches(at_once):
        predictor = learner.adapt(batch.episode.support.to(device))
        parts.append(ask(predictor, batch, relevant_from, device))
    if not parts:
        nothing = np.zeros(0)
        counts = nothing.astype(np.int64)
        return Pairs(counts, counts, nothing, nothing, nothing, nothing, nothing.astype(np.bool_))
    return Pairs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def basis_of(pairs: Pairs, feedback: Feedback) -> Basis:
    """What probabilities can be read from, given what the learner says."""
    if feedback is Feedback.IMPLICIT:
        return Basis.NEXT
    return Basis.SCORE if bool(np.isnan(pairs.mean).any()) else Basis.VALUE


def _of_query(
    predictor: Predictor, batch: EvaluationBatch, relevant_from: float, device: torch.device
) -> tuple[np.ndarray, ...]:
    episode = batch.episode.to(device)
    mean, variance = predictor.mean_var(episode.items)
    scores = predictor.scores(episode.items)
    asked = episode.mask & (scores > UNKNOWN_SCORE)
    users, sizes = _owners(batch, asked)
    return (
        users,
        sizes,
        _array(scores, asked),
        _array(mean, asked),
        _array(variance, asked),
        _array(episode.values, asked),
        (episode.values >= relevant_from)[asked].cpu().numpy(),
    )


def _of_list(
    predictor: Predictor, batch: EvaluationBatch, relevant_from: float, device: torch.device
) -> tuple[np.ndarray, ...]:
    episode = batch.episode.to(device)
    scores = predictor.scores().double()
    out = scores <= UNKNOWN_SCORE
    if batch.excluded is not None:
        out = out | batch.excluded.to(device)
    best = scores.masked_fill(out, -torch.inf).topk(min(HEAD, scores.shape[1]), dim=1)
    came = torch.zeros_like(scores, dtype=torch.int32)
    wanted = episode.mask & (episode.values >= relevant_from)
    came.scatter_add_(1, episode.items, wanted.int())
    whole = episode.mask.sum(dim=1) >= NEXT
    asked = (best.values > -torch.inf) & whole[:, None]
    users, sizes = _owners(batch, asked)
    nothing = torch.full_like(best.values, torch.nan)
    return (
        users,
        sizes,
        *(_array(one, asked) for one in (best.values, nothing, nothing, nothing)),
        (came.gather(1, best.indices) > 0)[asked].cpu().numpy(),
    )


def _owners(batch: EvaluationBatch, asked: Tensor) -> tuple[Integers, Integers]:
    counts = asked.sum(dim=1).cpu().numpy()
    users = np.asarray(batch.users, dtype=np.int64)
    sizes = np.asarray(batch.support_size, dtype=np.int64)
    return np.repeat(users, counts), np.repeat(sizes, counts)


def _array(values: Tensor, asked: Tensor) -> Doubles:
    array: Doubles = values.double()[asked].cpu().numpy()
    return array
