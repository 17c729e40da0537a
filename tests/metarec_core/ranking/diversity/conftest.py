"""Random catalogues and candidate pools."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from metarec_core.ranking.diversity.pool import Pool
from metarec_core.ranking.diversity.space import ItemSpace

N_ITEMS = 60


def space_of(rng: np.random.Generator, *, dim: int = 12, n_categories: int = 5) -> ItemSpace:
    """Items with unit vectors, none to three categories each, and a popularity that is skewed."""
    vectors = rng.normal(size=(N_ITEMS, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    categories = np.zeros((N_ITEMS, n_categories), dtype=np.float32)
    for row in categories:
        chosen = rng.choice(n_categories, rng.integers(0, min(4, n_categories + 1)), replace=False)
        row[chosen] = 1.0 / max(len(chosen), 1)
    return ItemSpace(
        vectors=vectors.astype(np.float32),
        categories=categories,
        category_names=tuple(f"c{column}" for column in range(n_categories)),
        popularity=np.round(rng.random(N_ITEMS) ** 3, 2),
    )


def pool_of(rng: np.random.Generator, *, n_users: int = 4, width: int = 15, rank: int = 6) -> Pool:
    """Pools of ``width`` down to no candidates, with a covariance of low rank."""
    counts = np.maximum(width - np.arange(n_users) ** 2, 0)
    items = np.full((n_users, width), -1)
    scores = np.full((n_users, width), -np.inf)
    for row, count in enumerate(counts):
        chosen = np.sort(rng.choice(N_ITEMS, count, replace=False))
        drawn = np.round(rng.normal(size=count), 1)
        order = np.argsort(-drawn, kind="stable")
        items[row, :count], scores[row, :count] = chosen[order], drawn[order]
    factor = rng.normal(size=(n_users, width, rank)) * rng.uniform(0.1, 1.0)
    lengths = rng.integers(0, 8, size=n_users)
    return Pool(
        items=items,
        scores=scores,
        history=rng.integers(0, N_ITEMS, size=(n_users, 8)),
        history_mask=np.arange(8) < lengths[:, None],
        covariance=factor @ factor.transpose(0, 2, 1),
        users=rng.integers(-(2**62), 2**62, size=n_users),
    )


@pytest.fixture(scope="session")
def make_space() -> Callable[..., ItemSpace]:
    """See :func:`space_of`."""
    return space_of


@pytest.fixture(scope="session")
def make_pool() -> Callable[..., Pool]:
    """See :func:`pool_of`."""
    return pool_of
