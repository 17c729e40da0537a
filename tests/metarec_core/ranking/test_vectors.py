"""What stands for items and users: which learner's, and that products are those of tastes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from metarec_core.episodes.sampling import full_support
from metarec_core.episodes.types import TaskData
from metarec_core.learners.average import Average
from metarec_core.learners.base import FitContext
from metarec_core.learners.ease import Ease, EaseConfig
from metarec_core.learners.popularity import Popularity, PopularityConfig
from metarec_core.ranking.vectors import UserVectors, item_vectors, vector_learner

CPU = torch.device("cpu")


def test_the_member_that_counts_most_lends_its_vectors(small_average: Average) -> None:
    gaussian, network = small_average.members[2].learner, small_average.members[3].learner
    level = small_average.lists.level
    before = level.clone()
    for place, learner in ((2, gaussian), (3, network)):
        with torch.no_grad():
            level.fill_(-5.0)
            level[:, place] = 0.0
            # Popularity cannot tell items apart, however much it counts.
            level[:, 0] = 5.0
        assert vector_learner(small_average) is learner
        vectors, source = item_vectors(small_average)
        assert source == learner.name
        own = learner.item_factors().vectors
        torch.testing.assert_close(vectors, own - own.mean(dim=0))
    with torch.no_grad():
        level.copy_(before)


def test_products_of_users_are_those_of_their_tastes_over_the_catalogue(
    small_average: Average, small_data: TaskData
) -> None:
    support = full_support(small_data, np.arange(6))
    for member in small_average.members[2:]:
        learner = member.learner
        scores = learner.adapt(support).scores() - learner.item_factors().appeal
        tastes = scores - scores.mean(dim=1, keepdim=True)
        vectors = UserVectors.of(learner).vectors(support)
        assert vectors.shape[1] <= learner.item_factors().vectors.shape[1]
        torch.testing.assert_close(vectors @ vectors.mT, tastes @ tastes.mT, atol=1e-9, rtol=1e-9)


def test_item_to_item_weights_stand_where_there_are_no_vectors(small_data: TaskData) -> None:
    learner = Ease(EaseConfig())
    learner.fit(small_data, small_data, FitContext(seed=1, device=CPU))
    vectors, source = item_vectors(learner)
    assert source == "ease"
    assert learner.learned is not None
    weights = learner.learned.weights.mT.double()
    torch.testing.assert_close(vectors, weights - weights.mean(dim=0))
    support = full_support(small_data, np.arange(6))
    nobody = learner.adapt(replace(support, mask=torch.zeros_like(support.mask))).scores()
    moved = (learner.adapt(support).scores() - nobody).double()
    torch.testing.assert_close(
        UserVectors.of(learner).vectors(support),
        moved - moved.mean(dim=1, keepdim=True),
        atol=1e-6,
        rtol=1e-6,
    )


def test_features_stand_where_there_is_nothing_else() -> None:
    learner = Popularity(PopularityConfig())
    learner.log_counts = torch.ones(3)
    named = torch.eye(3, dtype=torch.float64)
    assert item_vectors(learner, named) == (named, "features")
    vectors, source = item_vectors(learner)
    assert vectors.shape == (0, 0)
    assert source == "nothing"
