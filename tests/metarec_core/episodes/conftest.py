"""Small task data whose values tell user and item."""

from collections.abc import Callable

import numpy as np
import pytest

from metarec_core.episodes.types import InteractionMatrix, TaskData, ValueScale
from metarec_core.schema import Feedback


def _make_data(counts: list[int], n_items: int = 50, seed: int = 0) -> TaskData:
    """Users with ``counts`` distinct random items; the value of (u, i) is ``u + i / 1000``."""
    rng = np.random.default_rng(seed)
    rows = [np.sort(rng.choice(n_items, size=count, replace=False)) for count in counts]
    items = np.concatenate([np.zeros(0, dtype=np.int64), *rows]).astype(np.int64)
    users = np.repeat(np.arange(len(counts)), counts)
    return TaskData(
        interactions=InteractionMatrix(
            indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            items=items,
            values=(users + items / 1000).astype(np.float32),
        ),
        user_features=np.arange(len(counts), dtype=np.float32)[:, None],
        item_features=np.zeros((n_items, 0), dtype=np.float32),
        scale=ValueScale(Feedback.EXPLICIT, 0.0, 1000.0, 4.0),
    )


@pytest.fixture(scope="session")
def make_data() -> Callable[..., TaskData]:
    """Makes task data of given numbers of interactions."""
    return _make_data


@pytest.fixture
def data() -> TaskData:
    """Users with no, one, few and many interactions."""
    return _make_data([0, 1, 2, 3, 7, 20, 50, 11, 11, 30])
