"""The paired bootstrap covers, pairs, clusters and repeats."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from metarec_core.evaluation import bootstrap_interval, paired_difference
from metarec_core.evaluation.bootstrap import _student_quantile, bootstrap_intervals


def compare(left: pl.DataFrame, right: pl.DataFrame, metric: str = "ndcg_at_10", **options: object):
    settings = {"resamples": 500, "confidence": 0.95} | options
    return paired_difference(left, right, metric, generator=np.random.default_rng(1), **settings)


@pytest.mark.parametrize("n_users", [10, 60])
def test_interval_covers_as_often_as_it_says(n_users: int) -> None:
    rng = np.random.default_rng(5)
    trials, covered = 400, 0
    for _ in range(trials):
        values = rng.normal(0.3, 1.0, n_users)
        low, high = bootstrap_interval(values, generator=rng, resamples=400, confidence=0.9)
        covered += low <= 0.3 <= high
    # 90 % of 400, give or take two and a half standard errors (and a little for skew).
    assert 0.86 <= covered / trials <= 0.945


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(4, 2.776), (9, 2.262), (29, 2.045), (200, 1.972)]
)
def test_student_quantile(degrees: int, quantile: float) -> None:
    assert _student_quantile(0.975, degrees) == pytest.approx(quantile, abs=0.012)


def test_pairing_takes_the_users_differences_out(make_tasks) -> None:
    left, right = make_tasks("left", ndcg=0.42), make_tasks("right", ndcg=0.40)
    paired = compare(left, right)
    assert paired.low > 0.0
    assert paired.difference == pytest.approx(0.02, abs=0.01)
    mixed = right.with_columns(user=59 - pl.col("user"))
    unpaired = compare(left, mixed)
    assert unpaired.high - unpaired.low > 5 * (paired.high - paired.low)


def test_order_of_rows_changes_nothing(make_tasks) -> None:
    left, right = make_tasks("left", ndcg=0.42), make_tasks("right")
    shuffled = left.sample(fraction=1.0, shuffle=True, seed=4)
    assert compare(left, right) == compare(shuffled, right)


def test_tasks_of_a_user_are_no_independent_evidence(make_tasks) -> None:
    left, right = make_tasks("left", ndcg=0.42, noise=0.1), make_tasks("right", noise=0.1)
    copies = [frame.filter(pl.col("support_size") == 5) for frame in (left, right)]
    repeated = [
        pl.concat([frame.with_columns(support_size=pl.lit(size, pl.Int64)) for size in range(20)])
        for frame in copies
    ]
    once, often = compare(*copies), compare(*repeated)
    assert often.n_users == once.n_users == 60
    assert (often.low, often.high) == pytest.approx((once.low, once.high), abs=1e-12)


def test_same_seed_same_interval_whatever_the_memory() -> None:
    values = np.random.default_rng(0).normal(size=37)
    intervals = {
        bootstrap_interval(
            values,
            generator=np.random.default_rng(8),
            resamples=300,
            confidence=0.95,
            draws_at_once=draws,
        )
        for draws in (1, 100, 1_000, 10_000_000)
    }
    assert len(intervals) == 1


def test_only_tasks_of_both_count(make_tasks) -> None:
    left = make_tasks("left", ndcg=0.42)
    right = make_tasks("right").with_columns(
        ndcg_at_10=pl.when(pl.col("user") < 20).then("ndcg_at_10")
    )
    assert compare(left, right).n_users == 20
    assert compare(left, right, support_size=5).n_users == 20
    assert compare(left, right, support_size=7).n_users == 0


def test_too_few_users_give_no_interval(make_tasks) -> None:
    one = compare(make_tasks("a", n_users=1), make_tasks("b", n_users=1))
    assert (one.n_users, one.low, one.high) == (1, None, None)
    assert one.difference is not None
    none = compare(make_tasks("a"), make_tasks("b", mae=None), metric="mae")
    assert (none.n_users, none.left, none.difference, none.low) == (0, None, None, None)
    low, high = bootstrap_interval(
        np.array([0.0, 1.0]), generator=np.random.default_rng(0), resamples=200, confidence=0.95
    )
    assert (low, high) == (0.0, 1.0)


def test_many_intervals_at_once_are_those_of_one_at_a_time() -> None:
    values = np.random.default_rng(2).normal(0.2, 1.0, (50, 3))
    lows, highs = bootstrap_intervals(
        values, generator=np.random.default_rng(7), resamples=8000, confidence=0.9
    )
    for column in range(3):
        low, high = bootstrap_interval(
            values[:, column],
            generator=np.random.default_rng(8),
            resamples=8000,
            confidence=0.9,
        )
        assert low is not None
        assert lows[column] == pytest.approx(low, abs=0.02)
        assert highs[column] == pytest.approx(high, abs=0.02)
    alone = bootstrap_intervals(
        values[:1], generator=np.random.default_rng(7), resamples=100, confidence=0.9
    )
    assert np.isnan(alone).all()
