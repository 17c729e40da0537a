from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from metarec_core.episodes.types import InteractionMatrix, TaskData, ValueScale
from metarec_core.learners.base import FitContext, Learner
from metarec_core.learners.registry import LEARNERS
from metarec_core.schema import Feedback

N_ITEMS = 60

SMALL = {
    "amortised": {"dim": 16, "hidden": 16, "loop": {"epochs": 4, "batch_tasks": 32}},
    "average": {"members": ["popularity", "bias", "item_knn", "gaussian", "amortised"]},
    "content": {"dim": 16, "hidden": 16, "loop": {"epochs": 4, "batch_tasks": 32}},
    "gaussian": {
        "taste_dim": 4,
        "exposure_dim": 6,
        "hidden": 8,
        "loop": {"epochs": 3, "batch_tasks": 32},
    },
    "maml": {
        "item_dim": 4,
        "exposure_dim": 6,
        "hidden": 8,
        "loop": {"epochs": 3, "batch_tasks": 32},
    },
}
"""Settings under which a learner fits in a second or two; others run with their defaults."""


def planted(n_users: int, *, seed: int, features: bool = True) -> TaskData:
    """Ratings of 1 to 5 from a planted low-rank structure that user and item features hint at.

    The catalogue is the same for every ``seed``; users differ.
    """
    items_rng, users_rng = np.random.default_rng(0), np.random.default_rng([1, seed])
    item_vectors = items_rng.normal(size=(N_ITEMS, 3))
    item_bias = items_rng.normal(scale=0.5, size=N_ITEMS)
    popularity = 1.0 / np.arange(1, N_ITEMS + 1) ** 0.5
    user_vectors = users_rng.normal(size=(n_users, 3))
    counts = users_rng.integers(2, 30, size=n_users)
    items = np.concatenate(
        [
            np.sort(users_rng.choice(N_ITEMS, n, replace=False, p=popularity / popularity.sum()))
            for n in counts
        ]
    )
    users = np.repeat(np.arange(n_users), counts)
    taste = (user_vectors[users] * item_vectors[items]).sum(axis=1)
    noise = users_rng.normal(scale=0.4, size=len(items))
    values = np.clip(np.round(3.4 + item_bias[items] + 0.6 * taste + noise), 1, 5)
    return TaskData(
        interactions=InteractionMatrix(
            indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            items=items.astype(np.int64),
            values=values.astype(np.float32),
        ),
        user_features=user_vectors[:, : 2 * features].astype(np.float32),
        item_features=item_vectors[:, : 3 * features].astype(np.float32),
        scale=ValueScale(Feedback.EXPLICIT, 1.0, 5.0, 4.0),
    )


@pytest.fixture(scope="session")
def train_data() -> TaskData:
    return planted(150, seed=1)


@pytest.fixture(scope="session")
def make_planted() -> Callable[..., TaskData]:
    """Makes data of a planted structure; see :func:`planted`."""
    return planted


@pytest.fixture(scope="session")
def validation_data() -> TaskData:
    return planted(30, seed=2)


@pytest.fixture(scope="session")
def test_data() -> TaskData:
    return planted(25, seed=3)


@pytest.fixture(scope="session")
def planted_without_features() -> TaskData:
    return planted(40, seed=4, features=False)


Fit = Callable[..., Learner]


@pytest.fixture(scope="session")
def fit() -> Fit:
    """Fit a learner by name on the given training and validation tasks."""

    def build(name: str, train: TaskData, validation: TaskData, seed: int = 11) -> Learner:
        kind = LEARNERS[name]
        learner = kind(kind.Config.model_validate(SMALL.get(name, {})))
        context = FitContext(
            seed=seed,
            device=torch.device("cpu"),
            max_support=16,
            max_query=16,
            settings={
                name: kind.Config.model_validate(SMALL[name])
                for name, kind in LEARNERS.items()
                if name in SMALL
            },
        )
        learner.fit(train, validation, context)
        return learner

    return build


def dated_rows(*rows: tuple[int, float, float], n_items: int = 4) -> TaskData:
    """One user an interaction: item, day and value."""
    items, days, values = (np.array(column) for column in zip(*rows, strict=True))
    return TaskData(
        interactions=InteractionMatrix(
            indptr=np.arange(len(rows) + 1, dtype=np.int64),
            items=items.astype(np.int64),
            values=values.astype(np.float32),
            times=(days * 86_400).astype(np.int64),
        ),
        user_features=np.zeros((len(rows), 0), dtype=np.float32),
        item_features=np.zeros((n_items, 0), dtype=np.float32),
        scale=ValueScale(Feedback.EXPLICIT, 1.0, 5.0, 4.0),
    )


@pytest.fixture(scope="session")
def dated() -> Callable[..., TaskData]:
    """Tasks of one dated interaction each; see :func:`dated_rows`."""
    return dated_rows


@pytest.fixture(scope="session")
def fashions() -> TaskData:
    """Each season another item is in fashion; a classic is chosen every second time."""
    rng = np.random.default_rng(0)
    rows = [
        (int(rng.choice([0, 1 + day // 20])), float(day), 5.0)
        for day in range(200)
        for _ in range(6)
    ]
    return dated_rows(*rows, n_items=12)
