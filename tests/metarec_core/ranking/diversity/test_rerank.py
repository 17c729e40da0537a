"""What holds for every method, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metarec_core.errors import ConfigError, ModelError
from metarec_core.ranking.diversity.pool import Pool, user_keys
from metarec_core.ranking.diversity.registry import METHODS
from metarec_core.ranking.diversity.rerank import order, rerank
from metarec_core.ranking.diversity.settings import DiversityConfig, MethodName
from metarec_core.ranking.diversity.space import ItemSpace

every_method = pytest.mark.parametrize("method", sorted(METHODS))
SEEDS = st.integers(0, 2**32 - 1)


def settings_of(method: MethodName, strength: float = 0.6) -> DiversityConfig:
    return DiversityConfig(method=method, strength=strength)


def rows_of(pool: Pool, rows: list[int]) -> Pool:
    return Pool(
        pool.items[rows],
        pool.scores[rows],
        pool.history[rows],
        pool.history_mask[rows],
        pool.covariance[rows],
        pool.users[rows],
    )


def wider(pool: Pool, extra: int) -> Pool:
    """The same candidates with more padding, also of histories."""
    side = ((0, 0), (0, extra))
    return Pool(
        np.pad(pool.items, side, constant_values=-1),
        np.pad(pool.scores, side, constant_values=-np.inf),
        np.pad(pool.history, side, constant_values=7),
        np.pad(pool.history_mask, side),
        np.pad(pool.covariance, (*side, (0, extra)), constant_values=3.0),
        pool.users,
    )


def test_settings_name_every_method() -> None:
    assert sorted(get_args(MethodName)) == sorted(METHODS)
    assert DiversityConfig().method == "none"
    assert not DiversityConfig().reorders


@every_method
def test_strength_0_is_the_order_of_scores(method: MethodName, make_space, make_pool) -> None:
    rng = np.random.default_rng(0)
    pool = make_pool(rng, n_users=5)
    found = order(pool, make_space(rng), settings_of(method, 0.0), seed=1)
    places = np.arange(pool.items.shape[1])
    assert np.array_equal(found, np.where(pool.items >= 0, places, -1))


@every_method
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, strength=st.floats(0.001, 1.0))
def test_a_list_depends_on_its_own_user_alone(
    method: MethodName, seed: int, strength: float, make_space, make_pool
) -> None:
    rng = np.random.default_rng(seed)
    space, pool = make_space(rng), make_pool(rng, n_users=5)
    chosen = settings_of(method, strength)
    together = order(pool, space, chosen, seed=5)
    turned = order(rows_of(pool, [3, 1, 0, 4, 2]), space, chosen, seed=5)
    assert np.array_equal(turned, together[[3, 1, 0, 4, 2]])
    for row in range(5):
        assert np.array_equal(order(rows_of(pool, [row]), space, chosen, seed=5)[0], together[row])
    padded = order(wider(pool, 4), space, chosen, seed=5)
    assert np.array_equal(padded[:, :-4], together)
    assert (padded[:, -4:] == -1).all()


@every_method
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, k=st.integers(1, 25))
def test_lists_are_heads_of_the_order(
    method: MethodName, seed: int, k: int, make_space, make_pool
) -> None:
    rng = np.random.default_rng(seed)
    space, pool = make_space(rng), make_pool(rng)
    whole = order(pool, space, settings_of(method), seed=2)
    head = rerank(pool, space, settings_of(method), k, seed=2)
    assert head.shape == (4, k)
    assert head.dtype == np.int64
    width = pool.items.shape[1]
    assert np.array_equal(head[:, :width], whole[:, : min(k, width)])
    assert (head[:, width:] == -1).all()
    listed = pool.ranked(head)
    assert np.array_equal(listed >= 0, head >= 0)
    for row in range(4):
        shown = listed[row][listed[row] >= 0]
        assert len(set(shown.tolist())) == len(shown) == min(k, (pool.items[row] >= 0).sum())
        assert np.isin(shown, pool.items[row]).all()


def alike(pool: Pool, *, level: bool) -> Pool:
    """Candidates whose scores are equal or spread; in the order of the catalogue either way."""
    items = np.where(pool.items >= 0, np.arange(pool.items.shape[1]), -1)
    descending = np.zeros(items.shape) if level else -np.arange(items.shape[1]) + 0.0 * items
    return replace(
        pool,
        items=items,
        scores=np.where(items >= 0, descending, -np.inf),
        covariance=np.zeros_like(pool.covariance),
    )


@every_method
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("level", [True, False])
def test_where_all_items_are_alike_scores_decide_then_the_catalogue(
    method: MethodName, known: bool, level: bool, make_space, make_pool
) -> None:
    rng = np.random.default_rng(4)
    plain = make_space(rng)
    vectors, categories = np.zeros_like(plain.vectors), np.zeros_like(plain.categories)
    if known:
        vectors[:], categories[:, 2] = plain.vectors[0], 1.0
    space = ItemSpace(vectors, categories, plain.category_names, np.full(plain.n_items, 0.5))
    pool = alike(make_pool(rng), level=level)
    for strength in (0.4, 1.0):
        found = order(pool, space, settings_of(method, strength), seed=0)
        places = np.arange(pool.items.shape[1])
        assert np.array_equal(found, np.where(pool.items >= 0, places, -1))


@every_method
def test_one_candidate_and_none(method: MethodName, make_space, make_pool) -> None:
    rng = np.random.default_rng(3)
    space, pool = make_space(rng), make_pool(rng, width=1)
    assert pool.counts.tolist() == [1, 0, 0, 0]
    found = rerank(pool, space, settings_of(method, 1.0), 3, seed=0)
    assert found.tolist() == [[0, -1, -1], [-1] * 3, [-1] * 3, [-1] * 3]
    empty = rows_of(pool, [])
    assert rerank(empty, space, settings_of(method), 3, seed=0).shape == (0, 3)


def test_categories_do_not_matter_to_a_user_without_history(make_space, make_pool) -> None:
    """Nothing says what to calibrate to; xQuAD still covers what the candidates offer."""
    rng = np.random.default_rng(8)
    space, pool = make_space(rng), make_pool(rng, n_users=1)
    unknown = replace(pool, history_mask=np.zeros_like(pool.history_mask))
    plain = np.arange(pool.items.shape[1])
    assert np.array_equal(order(unknown, space, settings_of("calibrated", 0.9), seed=0)[0], plain)
    covered = order(unknown, space, settings_of("xquad", 0.9), seed=0)[0]
    assert not np.array_equal(covered, plain)


def test_more_strength_makes_lists_more_diverse(make_space, make_pool) -> None:
    """Each by what it maximises, on average over some users."""

    def likeness(cosines: np.ndarray) -> float:
        return float(cosines.sum())

    def lost_volume(cosines: np.ndarray) -> float:
        return -float(np.linalg.slogdet((1.0 + cosines) / 2.0 + 1e-6 * np.eye(len(cosines)))[1])

    for method, measure in (("mmr", likeness), ("dpp", lost_volume)):
        totals = dict.fromkeys((0.0, 0.5, 1.0), 0.0)
        for seed in range(30):
            rng = np.random.default_rng(seed)
            space, pool = make_space(rng), make_pool(rng, n_users=1, width=40)
            for strength in totals:
                found = rerank(pool, space, settings_of(method, strength), 8, seed=0)
                vectors = space.vectors[pool.ranked(found)[0]].astype(np.float64)
                totals[strength] += measure(vectors @ vectors.T)
        assert totals[1.0] < totals[0.5] < totals[0.0]


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda p: replace(p, scores=np.where(p.items == p.items[0, 2], np.nan, p.scores)), "NaN"),
        (
            lambda p: replace(p, scores=np.where(p.items == p.items[0, 0], np.inf, p.scores)),
            "infin",
        ),
        (lambda p: replace(p, scores=np.sort(p.scores, axis=1)), "scores"),
        (lambda p: replace(p, items=np.where(p.items == p.items[0, 1], -1, p.items)), "item"),
        (lambda p: replace(p, covariance=p.covariance * np.nan), "covariance"),
        (lambda p: replace(p, covariance=p.covariance[:, 1:]), "covariance of shape"),
        (lambda p: replace(p, users=p.users[1:]), "users of shape"),
        (lambda p: replace(p, history=p.history[:, 1:]), "history of shape"),
        (lambda p: replace(p, scores=p.scores[:, 1:]), "items of shape"),
    ],
)
def test_a_pool_that_is_none_is_refused(spoil, found: str, make_pool) -> None:
    pool = make_pool(np.random.default_rng(6))
    with pytest.raises(ModelError, match="candidate pool") as error:
        spoil(pool)
    assert found in error.value.found


def test_equal_scores_stand_in_the_order_of_the_catalogue() -> None:
    nothing = np.zeros((1, 0), dtype=np.int64), np.zeros((1, 0), dtype=np.bool_)
    with pytest.raises(ModelError, match="out of order"):
        Pool(np.array([[4, 2]]), np.zeros((1, 2)), *nothing)
    Pool(np.array([[2, 4]]), np.zeros((1, 2)), *nothing)


@pytest.mark.parametrize("method", ["sample", "mean_variance"])
def test_a_learner_without_covariance_cannot_have_it(
    method: MethodName, make_space, make_pool
) -> None:
    rng = np.random.default_rng(7)
    pool = replace(make_pool(rng), covariance=None)
    with pytest.raises(ConfigError, match=r"gaussian, blr, amortised or average"):
        rerank(pool, make_space(rng), settings_of(method), 3, seed=0)
    # At strength 0 nothing of it is needed.
    assert rerank(pool, make_space(rng), settings_of(method, 0.0), 3, seed=0)[0].tolist() == [
        0,
        1,
        2,
    ]


@pytest.mark.parametrize("method", ["xquad", "calibrated"])
def test_a_catalogue_without_categories_cannot_be_spread_over_them(
    method: MethodName, make_space, make_pool
) -> None:
    rng = np.random.default_rng(7)
    with pytest.raises(ConfigError, match="items without categories"):
        rerank(make_pool(rng), make_space(rng, n_categories=0), settings_of(method), 3, seed=0)


@pytest.mark.parametrize("method", ["mmr", "dpp"])
def test_a_catalogue_without_vectors_says_nothing_of_likeness(
    method: MethodName, make_space, make_pool
) -> None:
    rng = np.random.default_rng(7)
    with pytest.raises(ConfigError, match="items without vectors"):
        rerank(make_pool(rng), make_space(rng, dim=0), settings_of(method), 3, seed=0)


def test_what_does_not_fit_is_refused(make_space, make_pool) -> None:
    rng = np.random.default_rng(7)
    space, pool = make_space(rng), make_pool(rng)
    foreign = replace(pool, items=np.where(pool.items >= 0, pool.items + 100, -1))
    with pytest.raises(ModelError, match="item index"):
        rerank(foreign, space, settings_of("mmr"), 3, seed=0)
    with pytest.raises(ModelError, match="keys of its users"):
        rerank(replace(pool, users=None), space, settings_of("sample"), 3, seed=0)
    with pytest.raises(ConfigError, match="length of a list"):
        rerank(pool, space, settings_of("mmr"), 0, seed=0)
    with pytest.raises(ModelError, match="negative eigenvalue"):
        rerank(replace(pool, covariance=-pool.covariance), space, settings_of("sample"), 3, seed=0)


def test_a_preset_needs_a_method() -> None:
    with pytest.raises(ValueError, match="wanted a method"):
        DiversityConfig(preset="gentle")
    assert DiversityConfig(method="mmr", preset="gentle", strength=0.0).reorders


def test_keys_are_the_same_everywhere() -> None:
    keys = user_keys(["1", "2", "ü"])
    assert keys.tolist() == user_keys(np.array(["1", "2", "ü"])).tolist()
    assert keys.tolist() == [7788998724173785586, -5399209400696285473, -2256237750097629]
    assert user_keys([]).shape == (0,)
