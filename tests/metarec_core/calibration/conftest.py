"""Pairs and learners whose truth is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from metarec_core.calibration.pairs import Pairs
from metarec_core.episodes.types import InteractionMatrix, Support, TaskData, ValueScale
from metarec_core.schema import Feedback

STARS = ValueScale(Feedback.EXPLICIT, 1.0, 5.0, 4.0)
EVENTS = ValueScale(Feedback.IMPLICIT, 1.0, 1.0, 1.0)
N_ITEMS = 120


class Believer:
    """Forecasts ``quality`` of an item for everyone, and is as sure of it as it pleases.

    Args:
        quality: Forecast and score of each item, ``[I]``.
        sd: Its predictive sd; None: it forecasts no value.
    """

    name = "believer"
    reads_features = False

    def __init__(self, quality: np.ndarray, sd: float | None) -> None:
        self._quality, self._sd = torch.from_numpy(quality), sd

    def adapt(self, support: Support) -> Believer:
        self._users = len(support.items)
        return self

    def scores(self, items: Tensor | None = None) -> Tensor:
        everyone = self._quality.expand(self._users, -1)
        return everyone if items is None else self._quality[items]

    def mean_var(self, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mean = self.scores(items)
        if self._sd is None:
            return torch.full_like(mean, torch.nan), torch.full_like(mean, torch.nan)
        return mean, torch.full_like(mean, self._sd**2)


@pytest.fixture(scope="session")
def make_pairs() -> Callable[..., Pairs]:
    """A maker of pairs whose probability of relevance is a function of what is said of them."""

    def make(
        probability: Callable[[np.ndarray, np.ndarray], np.ndarray],
        *,
        n_users: int = 200,
        each: int = 60,
        seed: int = 0,
    ) -> Pairs:
        rng = np.random.default_rng(seed)
        n = n_users * each
        sizes = rng.choice([0, 1, 2, 5, 10, 20, 50], n)
        mean = rng.normal(3.5, 0.6, n).clip(1, 5)
        relevant = rng.random(n) < probability(mean, sizes)
        return Pairs(
            users=np.repeat(np.arange(n_users), each),
            sizes=sizes,
            scores=10.0 * mean,
            mean=mean,
            variance=np.full(n, 0.64),
            values=np.where(relevant, 4.0, 3.0),
            relevant=relevant,
        )

    return make


def _ratings_of(
    quality: np.ndarray, n_users: int, *, seed: int, implicit: bool = False
) -> TaskData:
    """Users who meet 40 items by chance (better ones more often) and rate them by quality."""
    rng = np.random.default_rng(seed)
    chance = np.exp(quality - quality.max()) if implicit else np.ones(len(quality))
    items, values = [], []
    for _ in range(n_users):
        met = rng.choice(len(quality), 40, replace=False, p=chance / chance.sum())
        stars = np.clip(np.round(quality[met] + rng.normal(0.0, 1.0, 40)), 1, 5)
        order = np.argsort(met)
        items.append(met[order])
        values.append(np.ones(40) if implicit else stars[order])
    return TaskData(
        interactions=InteractionMatrix(
            indptr=np.arange(0, 40 * n_users + 1, 40, dtype=np.int64),
            items=np.concatenate(items).astype(np.int64),
            values=np.concatenate(values).astype(np.float32),
        ),
        user_features=np.zeros((n_users, 0), dtype=np.float32),
        item_features=np.zeros((len(quality), 0), dtype=np.float32),
        scale=EVENTS if implicit else STARS,
    )


@pytest.fixture(scope="session")
def quality() -> np.ndarray:
    return np.random.default_rng(3).normal(3.4, 0.7, N_ITEMS).clip(1.5, 4.8)


@pytest.fixture(scope="session")
def ratings_of() -> Callable[..., TaskData]:
    """A maker of users."""
    return _ratings_of


@pytest.fixture(scope="session")
def believer() -> type[Believer]:
    """A learner that has nothing to learn."""
    return Believer
