"""What may be measured on a batch of tasks, by name: protocols choose from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from metarec_core.evaluation import metrics


@dataclass(frozen=True, slots=True)
class Answers:
    """A learner's answers to a batch of tasks, and the truth.

    Attributes:
        top: Items of the head of the ranking, best first, ``[B, K]`` int64.
        hits: Which places hold a target, ``[B, K]`` bool.
        n_targets: Targets of each task, ``[B]`` int64.
        items: Query items, ``[B, Q]`` int64.
        values: Query values, ``[B, Q]`` float32.
        mask: True where a query entry is real, ``[B, Q]`` bool.
        mean: Predicted values, ``[B, Q]``; NaN where none was predicted.
        variance: Predictive variances, ``[B, Q]``.
        scores: List scores of the query items, ``[B, Q]``; None where nobody asked for them.
    """

    top: Tensor
    hits: Tensor
    n_targets: Tensor
    items: Tensor
    values: Tensor
    mask: Tensor
    mean: Tensor
    variance: Tensor
    scores: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure a task.

    Attributes:
        name: Column of the frame of tasks.
        compute: From answers to ``[B]`` float64, NaN where a task has no such figure.
        places: Length of the head of the ranking that it reads.
    """

    name: str
    compute: Callable[[Answers], Tensor]
    places: int = 0


def _ranked(kind: Callable[[Tensor, Tensor, int], Tensor], k: int, answers: Answers) -> Tensor:
    return kind(answers.hits, answers.n_targets, k)


def _graded(k: int, answers: Answers) -> Tensor:
    """Gain ``2^value - 1`` of every query item, among the query items."""
    gains = torch.where(answers.mask, 2.0 ** answers.values.double() - 1.0, 0.0)
    stands = (answers.top[:, :, None] == answers.items[:, None, :]) & answers.mask[:, None, :]
    return metrics.graded_ndcg((stands * gains[:, None, :]).sum(dim=2), gains, k)


def _error(kind: Callable[[Tensor, Tensor, Tensor], Tensor], answers: Answers) -> Tensor:
    return kind(answers.mean, answers.values, answers.mask)


def _nll(answers: Answers) -> Tensor:
    return metrics.gaussian_nll(answers.mean, answers.variance, answers.values, answers.mask)


def _covered(level: float, answers: Answers) -> Tensor:
    return metrics.interval_coverage(
        answers.mean, answers.variance, answers.values, answers.mask, level
    )


def _ranking_measures() -> list[Measure]:
    cuts = {"ndcg": (1, 3, 5, 10), "precision": (5,), "mrr": (5,), "recall": (20,)}
    kinds = {
        "ndcg": metrics.ndcg,
        "precision": metrics.precision,
        "mrr": metrics.reciprocal_rank,
        "recall": metrics.recall,
    }
    return [
        Measure(f"{name}_at_{k}", partial(_ranked, kinds[name], k), places=k)
        for name, some in cuts.items()
        for k in some
    ]


_ALL: Mapping[str, Measure] = {
    measure.name: measure
    for measure in (
        *_ranking_measures(),
        *(Measure(f"graded_ndcg_at_{k}", partial(_graded, k), places=k) for k in (1, 3, 5)),
        Measure("mae", partial(_error, metrics.absolute_error)),
        Measure("rmse", partial(_error, metrics.root_squared_error)),
        Measure("mse", partial(_error, metrics.squared_error)),
        Measure("nll", _nll),
        Measure("coverage_50", partial(_covered, 0.5)),
        Measure("coverage_90", partial(_covered, 0.9)),
    )
}


def measures(*names: str) -> tuple[Measure, ...]:
    """The measures of those names.

    Raises:
        KeyError: If there is none of a name.
    """
    return tuple(_ALL[name] for name in names)


NIGHTLY: Sequence[Measure] = measures(
    "mae", "rmse", "nll", "coverage_50", "coverage_90", "ndcg_at_10", "recall_at_20"
)
"""What the gate and the report of a night read."""
