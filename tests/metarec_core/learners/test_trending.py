from __future__ import annotations

from dataclasses import replace

import torch

from metarec_core.episodes.types import TaskData
from metarec_core.learners.base import FitContext
from metarec_core.learners.fading import Fading
from metarec_core.learners.popularity import Popularity
from metarec_core.learners.trending import Trending, TrendingConfig

CONTEXT = FitContext(seed=1, device=torch.device("cpu"), max_support=8, max_query=8)


def test_lists_stand_in_the_order_of_what_is_in_fashion(fashions: TaskData) -> None:
    learner, popularity = Trending(TrendingConfig()), Popularity(Popularity.Config())
    report = learner.fit(fashions, fashions, CONTEXT)
    popularity.fit(fashions, fashions, CONTEXT)
    torch.testing.assert_close(learner.log_counts, Fading.learn(fashions).appeal(fashions).float())
    last = fashions.n_items - 2
    assert int(learner.log_counts[1:].argmax()) + 1 == last
    assert int(popularity.log_counts[1:].argmax()) + 1 != last
    assert report.facts["weight_of_half_life_7"] > 0.3


def test_half_lives_are_a_setting(fashions: TaskData) -> None:
    report = Trending(TrendingConfig(half_lives_days=(2.0,))).fit(fashions, fashions, CONTEXT)
    assert set(report.facts) == {"weight_of_half_life_2", "weight_of_half_life_inf"}


def test_without_times_it_is_popularity(fashions: TaskData) -> None:
    timeless = replace(fashions, interactions=replace(fashions.interactions, times=None))
    learner, popularity = Trending(TrendingConfig()), Popularity(Popularity.Config())
    learner.fit(timeless, timeless, CONTEXT)
    popularity.fit(timeless, timeless, CONTEXT)
    torch.testing.assert_close(learner.log_counts, popularity.log_counts)
