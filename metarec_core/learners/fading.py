"""How often items were chosen, counted alike or with a past that fades."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from metarec_core.episodes.types import TaskData

_DAY = 86_400.0
"""Seconds."""

HALF_LIVES = (7.0, 30.0, 120.0)
"""Days at which a choice counts for half; beside them stands a count that never fades."""

_ORIGINS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Quantiles of the training times from which the rest of them is forecast."""

_RIDGE = 10.0
"""Choices that the equal weighting of all counts is worth."""

_NEWTON_STEPS = 30
_HALVINGS = 30


def liked_counts(data: TaskData) -> Tensor:
    """Relevant interactions of each item, ``[I]`` float64."""
    relevant = data.interactions.values >= data.scale.relevant_from
    counts = np.bincount(data.interactions.items[relevant], minlength=data.n_items)
    return torch.from_numpy(counts.astype(np.float64))


@dataclass(frozen=True, slots=True)
class Fading:
    """``appeal_i(t) = sum_h a_h log(1 + n_ih(t))``, ``n_ih(t) = sum 2^(-age / h)``.

    The sum is over the relevant interactions with ``i`` before ``t``, age counted from ``t``: one
    count a half-life ``h`` and one that never fades (exponential forgetting, Koychev 2000, "Gradual
    Forgetting for Adaptation to Concept Drift"). A single half-life has to be short for what is in
    fashion and long for what is seldom chosen; several say how each item's popularity moves.

    Attributes:
        half_lives: ``h`` in days; the last one is infinite, ``[H]``.
        weights: ``a``, ``[H]`` float64.
    """

    half_lives: tuple[float, ...]
    weights: Tensor

    @classmethod
    def learn(cls, data: TaskData, half_lives: Sequence[float] = HALF_LIVES) -> Self:
        """The weights under which what came later in ``data`` was likeliest.

        From each of some moments on, the choices that followed are forecast by those before, as a
        softmax over the items met until then (rolling origins, Tashman 2000, "Out-of-sample tests
        of forecasting accuracy"; a conditional logit, McFadden 1974). The likelihood is concave in
        the weights; few choices leave them equal. Where interactions have no times nothing fades.
        """
        every = (*half_lives, math.inf)
        equal = torch.full((len(every),), 1.0 / len(every), dtype=torch.float64)
        return cls(every, _likeliest(list(_forecasts(data, every)), equal))

    def appeal(self, data: TaskData, until: float | None = None) -> Tensor:
        """Appeal of each item, ``[I]`` float64.

        Args:
            data: Whose choices are counted.
            until: ``t`` in seconds since 1970; None: the latest time of ``data``, included.
        """
        return _log_counts(data, self.half_lives, until) @ self.weights

    def share(self, data: TaskData, until: float | None = None) -> Tensor:
        """Chance of each item to be the next one chosen, ``[I]`` float64, of sum 1."""
        return torch.softmax(self.appeal(data, until), dim=0)


def _log_counts(data: TaskData, half_lives: Sequence[float], until: float | None) -> Tensor:
    """``log(1 + n_ih)``, ``[I, H]`` float64."""
    matrix = data.interactions
    counted = matrix.values >= data.scale.relevant_from
    ages: npt.NDArray[np.floating[Any]] | None = None
    if matrix.times is not None and len(matrix.times):
        if until is not None:
            counted &= matrix.times < until
        now = matrix.times.max() if until is None else until
        ages = (now - matrix.times[counted]) / _DAY
    items = matrix.items[counted]
    columns = [
        np.bincount(items, None if ages is None else np.exp2(-ages / h), minlength=data.n_items)
        for h in half_lives
    ]
    return torch.from_numpy(np.log1p(np.stack(columns, axis=1).astype(np.float64)))


def _forecasts(data: TaskData, half_lives: Sequence[float]) -> Iterator[tuple[Tensor, Tensor]]:
    """Log counts ``[M, H]`` of the items met until a moment, and their choices after it ``[M]``."""
    times = data.interactions.times
    if times is None or not len(times):
        return
    relevant = data.interactions.values >= data.scale.relevant_from
    for moment in np.unique(np.quantile(times, _ORIGINS)):
        past = times < moment
        met = np.bincount(data.interactions.items[past], minlength=data.n_items) > 0
        later = data.interactions.items[relevant & ~past]
        chosen = np.bincount(later, minlength=data.n_items)[met]
        if chosen.any():
            known = torch.from_numpy(met)
            yield (
                _log_counts(data, half_lives, float(moment))[known],
                torch.from_numpy(chosen.astype(np.float64)),
            )


def _likeliest(forecasts: Sequence[tuple[Tensor, Tensor]], start: Tensor) -> Tensor:
    """Maximise ``sum_w y_w' log softmax(X_w a) - ridge |a - start|^2`` by damped Newton steps."""
    eye = torch.eye(len(start), dtype=start.dtype)

    def loss(weights: Tensor) -> float:
        away = _RIDGE * (weights - start).square().sum()
        fit = [chosen @ torch.log_softmax(x @ weights, dim=0) for x, chosen in forecasts]
        return float(away) - sum(map(float, fit))

    weights, reached = start, loss(start)
    for _ in range(_NEWTON_STEPS):
        gradient = 2.0 * _RIDGE * (weights - start)
        curvature = 2.0 * _RIDGE * eye
        for x, chosen in forecasts:
            share = torch.softmax(x @ weights, dim=0)
            center = share @ x
            gradient = gradient + chosen.sum() * center - chosen @ x
            spread = (x * share[:, None]).mT @ x - torch.outer(center, center)
            curvature = curvature + chosen.sum() * spread
        step = torch.linalg.solve(curvature, gradient)
        for _ in range(_HALVINGS):
            if (lower := loss(weights - step)) < reached:
                break
            step = 0.5 * step
        else:
            break
        weights, reached = weights - step, lower
    return weights
