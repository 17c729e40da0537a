from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from metarec_core.episodes.types import InteractionMatrix, TaskData, ValueScale
from metarec_core.learners.base import FitContext
from metarec_core.learners.popularity import Popularity
from metarec_core.learners.trending import Trending, TrendingConfig
from metarec_core.schema import Feedback

DAY = 86_400


def tasks(*rows: tuple[int, int, float]) -> TaskData:
    """One user an interaction: item, day and value."""
    items, days, values = (np.array(column) for column in zip(*rows, strict=True))
    return TaskData(
        interactions=InteractionMatrix(
            indptr=np.arange(len(rows) + 1, dtype=np.int64),
            items=items.astype(np.int64),
            values=values.astype(np.float32),
            times=days.astype(np.int64) * DAY,
        ),
        user_features=np.zeros((len(rows), 0), dtype=np.float32),
        item_features=np.zeros((4, 0), dtype=np.float32),
        scale=ValueScale(Feedback.EXPLICIT, 1.0, 5.0, 4.0),
    )


PAST = tasks(*[(0, 0, 5.0)] * 6, *[(1, 90, 5.0)] * 3, (2, 90, 1.0))


def fitted(config: TrendingConfig, validation: TaskData) -> tuple[Trending, dict[str, float]]:
    context = FitContext(seed=1, device=torch.device("cpu"), max_support=8, max_query=8)
    learner = Trending(config)
    return learner, dict(learner.fit(PAST, validation, context).facts)


def test_an_interaction_of_the_half_lifes_age_counts_for_half() -> None:
    learner, _ = fitted(TrendingConfig(half_life_days=90.0), PAST)
    expected = np.log1p([3.0, 3.0, 0.0, 0.0])
    torch.testing.assert_close(learner.log_counts, torch.tensor(expected).float())


@pytest.mark.parametrize(("asked", "ahead"), [(1, 1), (0, 0)])
def test_validation_chooses_how_fast_the_past_fades(asked: int, ahead: int) -> None:
    learner, facts = fitted(TrendingConfig(), tasks(*[(asked, 91, 5.0)] * 5))
    assert int(learner.log_counts.argmax()) == ahead
    assert (facts["half_life_days"] < 90) == (asked == 1)


def test_without_times_it_is_popularity() -> None:
    timeless = replace(PAST, interactions=replace(PAST.interactions, times=None))
    context = FitContext(seed=1, device=torch.device("cpu"), max_support=8, max_query=8)
    learner, popularity = Trending(TrendingConfig()), Popularity(Popularity.Config())
    learner.fit(timeless, timeless, context)
    popularity.fit(timeless, timeless, context)
    torch.testing.assert_close(learner.log_counts, popularity.log_counts)
