"""Synthetic per-task frames and tasks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from metarec_core.episodes.types import InteractionMatrix, TaskData, ValueScale
from metarec_core.evaluation import TASK_SCHEMA
from metarec_core.schema import Feedback, segment

MakeTasks = Callable[..., pl.DataFrame]

_SIZES = (0, 5, 20)


@pytest.fixture(scope="session")
def make_tasks() -> MakeTasks:
    """A maker of per-task frames in which users differ far more than learners do."""

    def make(
        name: str,
        *,
        ndcg: float | None = 0.4,
        mae: float | None = 0.75,
        n_users: int = 60,
        seed: int = 0,
        noise: float = 0.02,
        ndcg_at: dict[int, float] | None = None,
    ) -> pl.DataFrame:
        shared = np.random.default_rng(99)
        own = np.random.default_rng([seed, len(name)])
        users = np.repeat(np.arange(n_users), len(_SIZES))
        sizes = np.tile(_SIZES, n_users)
        easy = np.repeat(shared.normal(0.0, 0.15, n_users), len(_SIZES))
        shift = np.array([(ndcg_at or {}).get(int(size), 0.0) for size in sizes])
        frame = pl.DataFrame(
            {
                "learner": [name] * len(users),
                "user": users,
                "support_size": sizes,
                "segment": [segment(int(size)) for size in sizes],
                "n_query": np.full(len(users), 10),
                "n_relevant": np.full(len(users), 6),
                "ndcg_at_10": None
                if ndcg is None
                else ndcg + easy + shift + own.normal(0.0, noise, len(users)),
                "mae": None if mae is None else mae - easy + own.normal(0.0, noise, len(users)),
                "recall_at_20": 0.2,
                "top_10": [list(range(10))] * len(users),
                "catalogue_size": 50,
            }
        )
        missing = [column for column in TASK_SCHEMA if column not in frame.columns]
        return frame.with_columns(pl.lit(None).alias(column) for column in missing).select(
            pl.col(column).cast(kind) for column, kind in TASK_SCHEMA.items()
        )

    return make


@pytest.fixture(scope="session")
def task_data() -> TaskData:
    """40 users with 4 to 30 of 60 items; ratings 1 to 5, taste and item quality mixed."""
    rng = np.random.default_rng(3)
    quality = rng.normal(0.0, 0.7, 60)
    items, values, counts = [], [], []
    for _ in range(40):
        count = int(rng.integers(4, 31))
        chosen = np.sort(rng.choice(60, size=count, replace=False))
        rating = 3.4 + rng.normal(0.0, 0.4) + quality[chosen] + rng.normal(0.0, 0.8, count)
        items.append(chosen)
        values.append(np.clip(np.round(rating), 1, 5))
        counts.append(count)
    return TaskData(
        interactions=InteractionMatrix(
            indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            items=np.concatenate(items).astype(np.int64),
            values=np.concatenate(values).astype(np.float32),
        ),
        user_features=np.zeros((40, 0), dtype=np.float32),
        item_features=np.zeros((60, 0), dtype=np.float32),
        scale=ValueScale(Feedback.EXPLICIT, 1.0, 5.0, 4.0),
    )
