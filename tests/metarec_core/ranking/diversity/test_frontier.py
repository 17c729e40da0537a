"""Pools of judged tasks, the frontier over them, and the strength that is gentle."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from metarec_core.episodes.sampling import EvaluationTasks, evaluation_episodes
from metarec_core.episodes.types import InteractionMatrix, TaskData, ValueScale
from metarec_core.errors import ConfigError, ModelError
from metarec_core.evaluation import evaluate
from metarec_core.evaluation.diversity import DIVERSITY_METRICS
from metarec_core.learners.base import FitContext
from metarec_core.learners.blr import Blr
from metarec_core.learners.popularity import Popularity
from metarec_core.ranking.diversity.categories import Categories
from metarec_core.ranking.diversity.frontier import (
    FRONTIER_SCHEMA,
    choose_strength,
    frontier,
    gentle,
    unmeasured,
)
from metarec_core.ranking.diversity.judged import JudgedPool, judged_pools
from metarec_core.ranking.diversity.loss import relative_loss
from metarec_core.ranking.diversity.pool import Pool
from metarec_core.ranking.diversity.registry import METHODS
from metarec_core.ranking.diversity.settings import DiversityConfig
from metarec_core.ranking.diversity.space import ItemSpace, item_space, relevant_share
from metarec_core.schema import Feedback

CPU = torch.device("cpu")
N_ITEMS = 60
STRENGTHS = (0.2, 0.6, 1.0)


@pytest.fixture(scope="module")
def data() -> TaskData:
    """90 users with a taste for one of four kinds of items; some items are bought by many."""
    rng = np.random.default_rng(2)
    popularity = 1.0 / np.arange(1, N_ITEMS + 1)
    rows = []
    for user in range(90):
        weight = popularity * np.where(np.arange(N_ITEMS) % 4 == user % 4, 6.0, 1.0)
        chosen = rng.choice(N_ITEMS, rng.integers(8, 20), replace=False, p=weight / weight.sum())
        rows.append(np.sort(chosen))
    items = np.concatenate(rows)
    users = np.repeat(np.arange(90), [len(row) for row in rows])
    rating = 3.0 + 1.4 * (items % 4 == users % 4) + rng.normal(0, 0.5, len(items))
    return TaskData(
        InteractionMatrix(
            np.cumsum([0, *map(len, rows)]).astype(np.int64),
            items.astype(np.int64),
            np.clip(np.round(rating), 1, 5).astype(np.float32),
        ),
        np.zeros((90, 0), dtype=np.float32),
        np.zeros((N_ITEMS, 0), dtype=np.float32),
        ValueScale(Feedback.EXPLICIT, 1.0, 5.0, 4.0),
    )


@pytest.fixture(scope="module")
def train(data: TaskData) -> TaskData:
    return data.select(np.arange(60))


@pytest.fixture(scope="module")
def tasks(data: TaskData) -> EvaluationTasks:
    return evaluation_episodes(
        data, np.arange(60, 90), support_sizes=[0, 3], max_query=6, seed=1, rank_reserved=False
    )


@pytest.fixture(scope="module")
def blr(data: TaskData, train: TaskData) -> Blr:
    learner = Blr(Blr.Config.model_validate({"dim": 4, "reg": 2.0, "sweeps": 3}))
    learner.fit(train, data.select(np.arange(60, 90)), FitContext(seed=1, device=CPU))
    return learner


@pytest.fixture(scope="module")
def popularity(data: TaskData, train: TaskData) -> Popularity:
    learner = Popularity(Popularity.Config())
    learner.fit(train, data.select(np.arange(60, 90)), FitContext(seed=1, device=CPU))
    return learner


@pytest.fixture(scope="module")
def space(blr: Blr, train: TaskData) -> ItemSpace:
    kinds = pl.Series([[f"kind {item % 4}"] for item in range(N_ITEMS)])
    share = relevant_share(train.interactions, train.scale, N_ITEMS)
    return item_space(blr, share, categories=Categories.of_lists(kinds))


@pytest.fixture(scope="module")
def figures(blr: Blr, tasks: EvaluationTasks, space: ItemSpace) -> pl.DataFrame:
    pools = judged_pools(blr, tasks, size=30, device=CPU, liked_from=4.0)
    return frontier(pools, space, strengths=STRENGTHS, seed=1)


def test_pools_are_the_heads_of_the_judged_rankings(
    blr: Blr, popularity: Popularity, tasks: EvaluationTasks
) -> None:
    for learner, unsure in ((blr, True), (popularity, False)):
        judged = list(
            judged_pools(learner, tasks, size=30, device=CPU, liked_from=4.0, batch_size=11)
        )
        top = evaluate(learner, tasks, device=CPU)["top_10"].to_list()
        heads = [row for batch in judged for row in batch.pool.items[:, :10].tolist()]
        assert heads == top
        for batch, expected in zip(judged, tasks.batches(11), strict=True):
            pool = batch.pool
            assert (pool.covariance is not None) == unsure
            rows, columns = np.nonzero(pool.items >= 0)
            assert not expected.excluded.numpy()[rows, pool.items[rows, columns]].any()
            assert np.array_equal(batch.target_mask, expected.targets.numpy())
            support = expected.episode.support
            good = support.mask & (support.values >= 4.0)
            wanted = torch.where(good.any(dim=1, keepdim=True), good, support.mask)
            assert np.array_equal(pool.liked, wanted.numpy())


def test_a_pool_larger_than_what_is_left_ends_early(
    popularity: Popularity, tasks: EvaluationTasks
) -> None:
    for batch, expected in zip(
        judged_pools(popularity, tasks, size=1000, device=CPU, liked_from=4.0),
        tasks.batches(256),
        strict=True,
    ):
        left = (~expected.excluded).sum(dim=1).tolist()
        assert batch.pool.counts.tolist() == left


def test_scores_that_are_not_numbers_are_refused(data: TaskData, tasks: EvaluationTasks) -> None:
    broken = Popularity(Popularity.Config())
    broken.fit(data, data, FitContext(seed=1, device=CPU))
    for name, tensor in vars(broken).items():
        if isinstance(tensor, torch.Tensor):
            setattr(broken, name, tensor * torch.nan)
    with pytest.raises(ModelError, match="NaN or infinite"):
        list(judged_pools(broken, tasks, size=5, device=CPU, liked_from=4.0))


def test_every_method_is_measured_at_every_strength(figures: pl.DataFrame) -> None:
    assert figures.schema == FRONTIER_SCHEMA
    assert figures["method"].unique(maintain_order=True).to_list() == list(METHODS)
    assert set(figures["metric"]) == {"ndcg_at_10", *DIVERSITY_METRICS}
    for (name,), part in figures.group_by("method"):
        expected = [0.0] if name == "none" else [0.0, *STRENGTHS]
        assert sorted(part["strength"].unique()) == expected
        assert len(part) == len(expected) * (1 + len(DIVERSITY_METRICS))
    assert figures["value"].null_count() == 0


def test_accuracy_says_how_many_users_it_is_of_and_how_sure_the_loss_is(
    figures: pl.DataFrame, blr: Blr, tasks: EvaluationTasks
) -> None:
    judged = evaluate(blr, tasks, device=CPU).drop_nulls("ndcg_at_10")
    known = judged.filter(pl.col("ndcg_at_10").is_not_nan())
    accuracy = figures.filter(metric="ndcg_at_10")
    assert set(accuracy["n_users"]) == {known["user"].n_unique()}
    assert set(accuracy.filter(strength=0.0)["loss_se"]) == {0.0}
    assert (accuracy.filter(method="mmr", strength=1.0)["loss_se"] > 0.0).all()
    others = figures.filter(pl.col("metric") != "ndcg_at_10")
    assert others["n_users"].null_count() == others["loss_se"].null_count() == len(others)


def test_the_taste_that_lists_are_compared_with_is_of_what_was_liked(space: ItemSpace) -> None:
    """The user liked the first kind alone, and a list of that kind is calibrated."""
    history = np.arange(4)[None]
    pool = Pool(
        items=np.arange(4, 44, 4)[None],
        scores=np.linspace(1.0, 0.0, 10)[None],
        history=history,
        history_mask=np.ones((1, 4), dtype=np.bool_),
        users=np.array([3]),
        liked=history == 0,
    )
    batch = JudgedPool(pool, np.array([[4]]), np.array([[True]]))
    found = frontier([batch], space, methods=["none"], seed=1)
    error = found.filter(metric="category_calibration_error")["value"].item()
    assert error == pytest.approx(0.0, abs=1e-9)


def test_without_strength_all_methods_are_the_learner_itself(
    figures: pl.DataFrame, blr: Blr, tasks: EvaluationTasks
) -> None:
    judged = evaluate(blr, tasks, device=CPU)["ndcg_at_10"].mean()
    plain = figures.filter(method="none")
    assert plain.filter(metric="ndcg_at_10")["value"].item() == pytest.approx(judged, abs=1e-12)
    for name in METHODS:
        own = figures.filter(method=name, strength=0.0)
        assert own["value"].to_list() == plain["value"].to_list()


@pytest.mark.parametrize(
    ("method", "metric", "more"),
    [
        ("mmr", "intra_list_diversity", True),
        ("dpp", "intra_list_diversity", True),
        ("xquad", "category_coverage", True),
        ("calibrated", "category_calibration_error", False),
        ("popularity", "novelty", True),
        ("popularity", "popularity_lift", False),
        ("sample", "catalogue_coverage", True),
    ],
)
def test_a_method_brings_what_it_is_for(
    method: str, metric: str, more: bool, figures: pl.DataFrame
) -> None:
    values = figures.filter(method=method, metric=metric).sort("strength")["value"]
    assert (values[-1] > values[0]) == more


def test_figures_do_not_depend_on_the_batch(
    blr: Blr, tasks: EvaluationTasks, space: ItemSpace, figures: pl.DataFrame
) -> None:
    pools = judged_pools(blr, tasks, size=30, device=CPU, liked_from=4.0, batch_size=7)
    again = frontier(pools, space, strengths=STRENGTHS, seed=1)
    names = ["method", "strength", "metric"]
    assert again.select(names).equals(figures.select(names))
    # Means are summed in other groups.
    np.testing.assert_allclose(again["value"], figures["value"], rtol=1e-12)
    assert again["n_users"].equals(figures["n_users"])


def test_methods_that_the_learner_does_not_allow_are_left_out_or_refused(
    popularity: Popularity, tasks: EvaluationTasks, space: ItemSpace
) -> None:
    pools = list(judged_pools(popularity, tasks, size=20, device=CPU, liked_from=4.0))
    found = frontier(pools, space, strengths=(0.5,), seed=1)
    assert set(found["method"]) == set(METHODS) - {"sample", "mean_variance"}
    with pytest.raises(ConfigError, match="no covariance"):
        frontier(pools, space, methods=["sample"], seed=1)


def test_without_a_task_there_is_no_figure(space: ItemSpace) -> None:
    nothing = frontier([], space, seed=1)
    assert nothing.schema == FRONTIER_SCHEMA
    assert nothing.is_empty()
    assert choose_strength(nothing, "mmr") == 0.0
    asked = DiversityConfig(method="mmr", preset="gentle")
    assert gentle(asked, nothing) == DiversityConfig(method="mmr", strength=0.0)
    assert unmeasured(nothing) == "no validation user has a task"


def measured(
    n_users: int = 30, loss_se: float | None = 0.0, **by_method: dict[float, float | None]
) -> pl.DataFrame:
    rows = [
        row
        for name, values in by_method.items()
        for strength, value in values.items()
        for row in (
            (name, strength, "ndcg_at_10", value, n_users, loss_se if strength else 0.0),
            (name, strength, "novelty", 99.0, None, None),
        )
    ]
    return pl.DataFrame(rows, schema=FRONTIER_SCHEMA, orient="row")


def test_gentle_is_the_largest_strength_that_loses_at_most_a_hundredth() -> None:
    found = measured(
        none={0.0: 0.4},
        mmr={0.5: 0.3959, 0.0: 0.4, 0.3: 0.396, 0.1: 0.41, 0.9: 0.4},
        dpp={0.0: 0.4, 0.1: 0.39},
    )
    assert choose_strength(found, "mmr") == 0.3
    # What is as good behind what is not is luck.
    assert choose_strength(found, "mmr", tolerance=0.05) == 0.9
    assert choose_strength(found, "dpp") == 0.0
    unknown = measured(none={0.0: None}, mmr={0.0: None, 0.5: None})
    assert choose_strength(unknown, "mmr") == 0.0
    assert unmeasured(found) is None
    with pytest.raises(ConfigError, match="none, mmr, dpp"):
        choose_strength(found, "xquad")


def test_a_loss_that_is_not_known_well_enough_is_not_gentle() -> None:
    curves = {"none": {0.0: 0.4}, "mmr": {0.0: 0.4, 0.1: 0.399, 0.3: 0.398, 0.5: 0.3961}}
    for loss_se, strength in ((0.0, 0.5), (0.004, 0.3), (0.006, 0.1), (0.008, 0.0), (None, 0.0)):
        assert choose_strength(measured(loss_se=loss_se, **curves), "mmr") == strength


def test_where_there_is_nothing_to_lose_lists_stay_as_they_are() -> None:
    zero = measured(none={0.0: 0.0}, mmr={0.0: 0.0, 0.5: 0.0, 1.0: 0.1}, loss_se=None)
    assert choose_strength(zero, "mmr") == 0.0
    assert "by score alone" in str(unmeasured(zero))
    single = measured(none={0.0: 0.4}, mmr={0.0: 0.4, 0.5: 0.4}, n_users=1, loss_se=None)
    assert choose_strength(single, "mmr") == 0.0
    assert "a single validation user" in str(unmeasured(single))


def test_the_preset_is_gentle_to_users_who_were_not_measured() -> None:
    """Stronger is worse by 1 % at 0.5; of such curves as noise makes, few cost others more."""
    rng = np.random.default_rng(5)
    strengths = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    costs = []
    for _ in range(200):
        before = rng.gamma(2.0, 0.2, 100)
        rows = [("none", 0.0, "ndcg_at_10", before.mean(), 100, 0.0)]
        own = rng.normal(0.0, 0.15, 100)
        for strength in strengths:
            after = before * (1.0 - 0.04 * strength**2 + own * strength)
            lost = relative_loss(before, after, np.arange(100))
            rows.append(("mmr", strength, "ndcg_at_10", after.mean(), 100, lost.standard_error))
        figures = pl.DataFrame(rows, schema=FRONTIER_SCHEMA, orient="row")
        costs.append(0.04 * choose_strength(figures, "mmr") ** 2)
    # Without standard errors it would be 0.38, and a mean of 0.011.
    assert np.mean(np.array(costs) > 0.0101) < 0.25
    assert np.mean(costs) < 0.008


def test_the_preset_becomes_a_strength() -> None:
    found = measured(none={0.0: 0.4}, mmr={0.0: 0.4, 0.2: 0.4, 0.8: 0.1})
    asked = DiversityConfig(method="mmr", preset="gentle", strength=0.9, pool=50)
    assert gentle(asked, found) == DiversityConfig(method="mmr", strength=0.2, pool=50)
    own = DiversityConfig(method="mmr", strength=0.9)
    assert gentle(own, found) is own
