"""Each method against its own formula, from scratch for every candidate of every place."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metarec_core.ranking.diversity.dpp import FLOOR
from metarec_core.ranking.diversity.pool import Pool
from metarec_core.ranking.diversity.rerank import order, rerank
from metarec_core.ranking.diversity.sample import _normal
from metarec_core.ranking.diversity.settings import DiversityConfig, MethodName
from metarec_core.ranking.diversity.space import ItemSpace

STRENGTHS = st.sampled_from([0.05, 0.3, 0.5, 0.9, 1.0])
SEEDS = st.integers(0, 2**32 - 1)
Value = Callable[[int, list[int]], float]
"""What a list is worth with candidate ``i`` behind those already shown."""


def settings_of(method: MethodName, strength: float) -> DiversityConfig:
    return DiversityConfig(method=method, strength=strength)


def real(pool: Pool, row: int) -> np.ndarray:
    return pool.items[row][pool.items[row] >= 0]


def standard(values: Sequence[float] | np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    sd = values.std() if len(values) else 0.0
    return (values - values.mean()) / sd if sd > 1e-9 else np.zeros(len(values))


def relevance(pool: Pool, row: int) -> np.ndarray:
    return standard(pool.scores[row][pool.items[row] >= 0])


def taste(space: ItemSpace, items: Sequence[int]) -> np.ndarray:
    total = np.zeros(len(space.category_names))
    for item in items:
        total += space.categories[item]
    return total / total.sum() if total.sum() > 0 else total


def history(pool: Pool, row: int) -> list[int]:
    return pool.history[row][pool.history_mask[row]].tolist()


def mmr(pool: Pool, space: ItemSpace, row: int, s: float) -> Value:
    z, v = relevance(pool, row), space.vectors[real(pool, row)].astype(np.float64)

    def value(i: int, shown: list[int]) -> float:
        closest = max((float(v[i] @ v[j]) for j in shown), default=0.0)
        return (1 - s) * z[i] - s * closest

    # Nothing is shown before the first place: the best score takes it, also where s is 1.
    return lambda i, shown: value(i, shown) if shown else -float(i)


def dpp(pool: Pool, space: ItemSpace, row: int, s: float) -> Value:
    z, v = relevance(pool, row), space.vectors[real(pool, row)].astype(np.float64)
    kernel = (1.0 + v @ v.T) / 2.0
    np.fill_diagonal(kernel, 1.0)

    def value(i: int, shown: list[int]) -> float:
        chosen = [*shown, i]
        sign, logarithm = np.linalg.slogdet(kernel[np.ix_(chosen, chosen)])
        assert sign > 0
        # s log det of diag(q) S diag(q), q = exp((1 - s) / (2 s) z), without the overflow.
        return (1 - s) * z[chosen].sum() + s * logarithm

    return value


def xquad(pool: Pool, space: ItemSpace, row: int, s: float) -> Value:
    items, scores = real(pool, row), pool.scores[row][pool.items[row] >= 0]
    reach = scores.max(initial=-9) - scores.min(initial=9)
    relevant = (scores - scores.min(initial=9)) / reach if reach > 1e-9 else 0.0 * scores
    wanted = taste(space, history(pool, row))
    if wanted.sum() == 0:
        wanted = taste(space, items.tolist())

    def value(i: int, shown: list[int]) -> float:
        gain = 0.0
        for category, weight in enumerate(wanted):
            missing = math.prod(1.0 - space.categories[items[j], category] for j in shown)
            gain += weight * space.categories[items[i], category] * missing
        return (1 - s) * relevant[i] + s * gain

    return value


def calibrated(pool: Pool, space: ItemSpace, row: int, s: float) -> Value:
    items, z = real(pool, row), relevance(pool, row)
    wanted = taste(space, history(pool, row))

    def value(i: int, shown: list[int]) -> float:
        q = 0.99 * taste(space, [items[j] for j in (*shown, i)]) + 0.01 * wanted
        kl = sum(p * math.log(p / other) for p, other in zip(wanted, q, strict=True) if p > 0)
        return (1 - s) * z[[*shown, i]].sum() - s * kl

    return value


def mean_variance(pool: Pool, space: ItemSpace, row: int, s: float) -> Value:
    scores = pool.scores[row][pool.items[row] >= 0]
    spread = scores.std() if len(scores) and scores.std() > 1e-9 else 1.0
    z, c = relevance(pool, row), pool.covariance[row] / spread**2

    def value(i: int, shown: list[int]) -> float:
        chosen = [*shown, i]
        w = 1.0 / np.log2(np.arange(len(chosen)) + 2.0)
        # The whole portfolio; its gain is w_k times what is compared at place k.
        risk = w @ c[np.ix_(chosen, chosen)] @ w
        return float(((1 - s) * (w @ z[chosen]) - s * risk) / w[-1])

    return value


GREEDY = {
    "mmr": mmr,
    "dpp": dpp,
    "xquad": xquad,
    "calibrated": calibrated,
    "mean_variance": mean_variance,
}
TOLERANCE = {"mmr": 1e-6, "xquad": 1e-6, "calibrated": 1e-6, "mean_variance": 2e-6}
"""Cosines and categories are float32, portfolios on a grid of a millionth."""


@pytest.mark.parametrize("method", sorted(GREEDY))
@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, strength=STRENGTHS, width=st.integers(1, 14))
def test_every_place_goes_to_the_best_that_is_left(
    method: MethodName, seed: int, strength: float, width: int, make_space, make_pool
) -> None:
    rng = np.random.default_rng(seed)
    space, pool = make_space(rng, dim=20), make_pool(rng, width=width)
    found = order(pool, space, settings_of(method, strength), seed=0)
    for row in range(len(found)):
        n = len(real(pool, row))
        listed = found[row, :n].tolist()
        assert sorted(listed) == list(range(n))
        assert (found[row, n:] == -1).all()
        value = GREEDY[method](pool, space, row, strength)
        for place, chosen in enumerate(listed):
            shown = listed[:place]
            left = [i for i in range(n) if i not in shown]
            values = {i: value(i, shown) for i in left}
            best = max(values.values())
            assert values[chosen] >= best - TOLERANCE.get(method, 1e-9) * (1.0 + abs(best))


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, strength=STRENGTHS)
def test_popularity_is_taken_off_the_score(seed: int, strength: float, make_space, make_pool):
    rng = np.random.default_rng(seed)
    space, pool = make_space(rng), make_pool(rng)
    found = order(pool, space, settings_of("popularity", strength), seed=0)
    met = space.popularity[space.popularity > 0]
    for row in range(len(found)):
        items = real(pool, row)
        shares = [space.popularity[item] or met.min() / 2 for item in items]
        value = relevance(pool, row) - strength * standard(np.log(shares))
        listed = found[row, : len(items)]
        assert (np.diff(value[listed]) <= 1e-9).all()
        assert sorted(listed.tolist()) == list(range(len(items)))


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, strength=STRENGTHS, night=st.integers(0, 1000))
def test_a_sample_is_the_score_and_a_draw_of_the_covariance(
    seed: int, strength: float, night: int, make_space, make_pool
) -> None:
    rng = np.random.default_rng(seed)
    space, pool = make_space(rng), make_pool(rng, rank=20)
    found = order(pool, space, settings_of("sample", strength), seed=night)
    mask = 2**64 - 1
    for row in range(len(found)):
        items = real(pool, row)
        n = len(items)
        key = splitmix((int(pool.users[row]) + GAMMA * (night + 1)) & mask)
        draws = [_normal(np.uint64(key), int(item)) for item in items]
        noise = np.linalg.cholesky(pool.covariance[row, :n, :n]) @ draws if n else np.zeros(0)
        value = pool.scores[row, :n] + strength * noise
        assert (np.diff(value[found[row, :n]]) <= 1e-5).all()


GAMMA = 0x9E3779B97F4A7C15


def splitmix(state: int) -> int:
    """SplitMix64's output function, as Steele et al. state it."""
    mask = 2**64 - 1
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
    return state ^ (state >> 31)


def test_draws_are_standard_normal_and_independent() -> None:
    draws = np.array(
        [[_normal(np.uint64(splitmix(key)), item) for item in range(4)] for key in range(20_000)]
    )
    assert abs(draws.mean(axis=0)).max() < 0.03
    np.testing.assert_allclose(np.cov(draws.T), np.eye(4), atol=0.04)
    within = np.mean(np.abs(draws) < 1.0)
    assert within == pytest.approx(0.6827, abs=0.01)


def test_an_item_is_sampled_first_as_often_as_it_is_the_best(make_space) -> None:
    n = 20_000
    covariance = np.array([[1.0, 0.6], [0.6, 2.0]])
    pool = Pool(
        items=np.tile([3, 8], (n, 1)),
        scores=np.tile([0.5, 0.0], (n, 1)),
        history=np.zeros((n, 0), dtype=np.int64),
        history_mask=np.zeros((n, 0), dtype=np.bool_),
        covariance=np.tile(covariance, (n, 1, 1)),
        users=np.arange(n),
    )
    space = make_space(np.random.default_rng(0))
    first = rerank(pool, space, settings_of("sample", 1.0), 1, seed=3)[:, 0]
    sd = math.sqrt(1.0 + 2.0 - 2 * 0.6)
    chance = 0.5 * (1.0 + math.erf(0.5 / sd / math.sqrt(2.0)))
    assert np.mean(first == 0) == pytest.approx(chance, abs=0.015)
    other = rerank(pool, space, settings_of("sample", 1.0), 1, seed=4)[:, 0]
    assert 0.2 < np.mean(first != other) < 0.6


def test_fully_determined_scores_are_not_sampled(make_space, make_pool) -> None:
    rng = np.random.default_rng(1)
    pool = make_pool(rng)
    sure = Pool(
        pool.items,
        pool.scores,
        pool.history,
        pool.history_mask,
        np.zeros_like(pool.covariance),
        pool.users,
    )
    found = order(sure, make_space(rng), settings_of("sample", 1.0), seed=0)
    plain = order(sure, make_space(rng), settings_of("none", 1.0), seed=0)
    assert np.array_equal(found, plain)


def test_dpp_orders_by_relevance_what_the_shown_already_span(make_space) -> None:
    """Five candidates in a plane: after three (constant, x, y) nothing is left of the others."""
    rng = np.random.default_rng(2)
    space = make_space(rng)
    angles = np.array([0.0, 0.0, 2.0, 4.0, 1.0])
    vectors = space.vectors.copy()
    vectors[:5] = 0.0
    vectors[:5, 0], vectors[:5, 1] = np.cos(angles), np.sin(angles)
    space = ItemSpace(vectors, space.categories, space.category_names, space.popularity)
    pool = Pool(
        items=np.arange(5)[None],
        scores=np.array([[5.0, 4.9, 4.8, 4.7, 4.6]]),
        history=np.zeros((1, 0), dtype=np.int64),
        history_mask=np.zeros((1, 0), dtype=np.bool_),
    )
    found = order(pool, space, settings_of("dpp", 0.9), seed=0)[0].tolist()
    # The twin of the best comes first of what is spanned, since its score is the highest left.
    assert set(found[:3]) == {0, 2, 3}
    assert found[3:] == [1, 4]
    assert FLOOR < 1e-3
