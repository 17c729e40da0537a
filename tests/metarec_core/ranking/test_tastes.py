"""Tastes against means and variances made by hand, item by item."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from metarec_core.episodes.sampling import full_support
from metarec_core.episodes.types import Support, TaskData
from metarec_core.features.named import NamedFeatures
from metarec_core.features.spec import FeatureSpec
from metarec_core.learners.average import Average
from metarec_core.learners.popularity import Popularity, PopularityConfig
from metarec_core.ranking.tastes import NORMAL_95, TASTES_SCHEMA, tastes
from metarec_core.schema import FeatureKind

USERS = pl.Series("user_id", ["b", "a", "c"])
SPECS = {"genres": FeatureSpec(column="g", kind=FeatureKind.MULTI)}


@pytest.fixture(scope="module")
def named(small_data: TaskData) -> NamedFeatures:
    names = np.array(["Comedy", "Drama", "War", "Western"])
    genres = [names[row > 0].tolist() for row in small_data.item_features]
    return NamedFeatures.of(pl.DataFrame({"genres": genres}), SPECS)


@pytest.fixture(scope="module")
def support(small_data: TaskData) -> Support:
    return full_support(small_data, np.array([4, 2, 9]))


def test_means_and_intervals_are_those_of_the_preference(
    small_average: Average, small_data: TaskData, named: NamedFeatures, support: Support
) -> None:
    found = tastes(small_average, support, USERS, named)
    assert found.schema == TASTES_SCHEMA
    assert len(found) == 3 * 4

    predictor = small_average.adapt(support)
    nobody = small_average.adapt(replace(support, mask=torch.zeros_like(support.mask)))
    everything = torch.arange(small_data.n_items).expand(3, -1)
    covariance = predictor.score_covariance(everything)
    for place, user in enumerate(USERS):
        scores, usual = (one.scores()[place].numpy() for one in (predictor, nobody))
        unit = scores.std()
        for label, has in zip(named.frame["label"], small_data.item_features.T > 0, strict=True):
            row = found.row(
                by_predicate=(pl.col("user_id") == user) & (pl.col("label") == label), named=True
            )
            weights = has / has.sum() - 1.0 / len(has)
            group = torch.from_numpy(has / has.sum()).double()[None]
            sd = predictor.contrast_variance(group)[place, 0].sqrt().item()
            # Of an average both are bounds, and close to each other.
            wider = np.sqrt(weights @ covariance[place].numpy() @ weights)
            assert sd <= wider * (1.0 + 1e-9)
            assert sd == pytest.approx(wider, rel=0.3)
            assert row["mean"] == pytest.approx(weights @ scores / unit, abs=2e-6)
            assert row["usual"] == pytest.approx(weights @ usual / unit, abs=2e-6)
            assert row["high"] == pytest.approx(
                (weights @ scores + NORMAL_95 * sd) / unit, abs=3e-6
            )
            assert row["low"] == pytest.approx((weights @ scores - NORMAL_95 * sd) / unit, abs=3e-6)
            assert row["n_items"] == has.sum()


def test_users_keep_their_order_and_the_strongest_and_surest_come_first(
    small_average: Average, named: NamedFeatures, support: Support
) -> None:
    found = tastes(small_average, support, USERS, named)
    assert found["user_id"].unique(maintain_order=True).to_list() == USERS.to_list()
    distance = (pl.col("mean") - pl.col("usual")).abs() - (pl.col("high") - pl.col("mean"))
    sure = found.select("user_id", distance.alias("sure"))
    for _, group in sure.group_by("user_id"):
        assert group["sure"].is_sorted(descending=True)


def test_a_learner_without_a_preference_gives_no_interval(
    named: NamedFeatures, support: Support, small_data: TaskData
) -> None:
    learner = Popularity(PopularityConfig())
    learner.log_counts = torch.rand(small_data.n_items, generator=torch.Generator().manual_seed(1))
    found = tastes(learner, support, USERS, named)
    assert found["low"].null_count() == found["high"].null_count() == len(found)
    assert found["mean"].equals(found["usual"].alias("mean"))


def test_scores_that_are_all_alike_say_nothing(named: NamedFeatures, support: Support) -> None:
    learner = Popularity(PopularityConfig())
    learner.log_counts = torch.full((named.n_items,), 2.0)
    found = tastes(learner, support, USERS, named)
    assert (found["mean"] == 0.0).all()
