from __future__ import annotations

import numpy as np
import pytest
import torch

from metarec_core.episodes.types import InteractionMatrix, TaskData, ValueScale
from metarec_core.learners.average import Average, AverageConfig
from metarec_core.learners.base import FitContext
from metarec_core.learners.registry import LEARNERS
from metarec_core.schema import Feedback

N_USERS, N_ITEMS, N_FEATURES = 60, 40, 4
SETTINGS = {
    "amortised": {"dim": 8, "hidden": 8, "loop": {"epochs": 2}},
    "gaussian": {"taste_dim": 3, "exposure_dim": 4, "hidden": 8, "loop": {"epochs": 2}},
}


@pytest.fixture(scope="session")
def small_data() -> TaskData:
    """Ratings at random, four features of items and two of users."""
    rng = np.random.default_rng(3)
    counts = rng.integers(2, 15, size=N_USERS)
    items = np.concatenate([np.sort(rng.choice(N_ITEMS, n, replace=False)) for n in counts])
    return TaskData(
        InteractionMatrix(
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            items,
            rng.integers(1, 6, size=len(items)).astype(np.float32),
        ),
        rng.normal(size=(N_USERS, 2)).astype(np.float32),
        (rng.random((N_ITEMS, N_FEATURES)) < 0.4).astype(np.float32),
        ValueScale(Feedback.EXPLICIT, 1.0, 5.0, 4.0),
    )


@pytest.fixture(scope="session")
def small_average(small_data: TaskData) -> Average:
    """An average of members of every kind: constant, linear, Gaussian and a network."""
    members = ("popularity", "item_knn", "gaussian", "amortised")
    learner = Average(AverageConfig(members=members))
    settings = {
        name: kind.Config.model_validate(SETTINGS[name])
        for name, kind in LEARNERS.items()
        if name in SETTINGS
    }
    context = FitContext(seed=1, device=torch.device("cpu"), settings=settings)
    learner.fit(small_data, small_data, context)
    return learner
