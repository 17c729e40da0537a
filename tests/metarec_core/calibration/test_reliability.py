from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from metarec_core.calibration.curves import IDENTITY
from metarec_core.calibration.pairs import Pairs
from metarec_core.calibration.relevance import Basis, RelevanceCalibration
from metarec_core.calibration.reliability import (
    ALL_SEGMENTS,
    BINS,
    RELIABILITY_SCHEMA,
    STATED_SCHEMA,
    chance_error,
    reliability,
    standing,
    stated_frame,
)
from metarec_core.evaluation.metrics import calibration_error

CALIBRATION = RelevanceCalibration(
    basis=Basis.VALUE, threshold=3.5, low=0.5, high=5.5, curve=IDENTITY, users=9, pairs=99
)


@pytest.fixture(scope="module")
def pairs(make_pairs: Callable[..., Pairs]) -> Pairs:
    return make_pairs(lambda mean, _: (mean - 1.0) / 4.0, n_users=50)


@pytest.fixture(scope="module")
def stated(pairs: Pairs) -> pl.DataFrame:
    return stated_frame("gaussian", pairs, CALIBRATION)


def test_a_row_is_a_pair(pairs: Pairs, stated: pl.DataFrame) -> None:
    assert stated.schema == STATED_SCHEMA
    assert np.array_equal(stated["probability"].to_numpy(), pairs.stated_by(CALIBRATION))
    inside = np.abs(pairs.values - pairs.mean) <= 1.6448536 * 0.8
    assert np.array_equal(stated["inside"].to_numpy(), inside)


def test_pairs_of_which_nothing_is_stated_are_left_out(make_pairs: Callable[..., Pairs]) -> None:
    some = make_pairs(lambda mean, _: mean / 6, n_users=5)
    some.mean[:7] = np.nan
    assert len(stated_frame("gaussian", some, CALIBRATION)) == len(some) - 7


def test_bins_are_those_of_the_calibration_error(pairs: Pairs, stated: pl.DataFrame) -> None:
    bins = reliability(stated)
    assert bins.schema == RELIABILITY_SCHEMA
    assert bins["segment"].unique(maintain_order=True).to_list() == [
        ALL_SEGMENTS, "0", "1-4", "5-9", "10-19", "20-49", "50+",
    ]  # fmt: skip
    whole = bins.filter(pl.col("segment") == ALL_SEGMENTS)
    assert len(whole) == BINS
    assert whole["pairs"].sum() == len(pairs)
    error = ((whole["stated"] - whole["observed"]).abs() * whole["pairs"]).sum() / len(pairs)
    probability = pairs.stated_by(CALIBRATION)
    assert error == pytest.approx(calibration_error(probability, pairs.relevant))
    band = bins.filter(pl.col("segment") == "1-4")
    inside = (pairs.sizes >= 1) & (pairs.sizes <= 4)
    order = np.argsort(probability[inside], kind="stable")
    for row, part in zip(band.iter_rows(named=True), np.array_split(order, BINS), strict=True):
        assert row["pairs"] == len(part)
        assert row["users"] == len(np.unique(pairs.users[inside][part]))
        assert row["stated"] == pytest.approx(probability[inside][part].mean())
        assert row["observed"] == pytest.approx(pairs.relevant[inside][part].mean())


def test_learners_keep_their_order_and_an_empty_frame_is_empty(stated: pl.DataFrame) -> None:
    two = pl.concat([stated.with_columns(learner=pl.lit(name)) for name in ("b", "a")])
    assert reliability(two)["learner"].unique(maintain_order=True).to_list() == ["b", "a"]
    assert reliability(stated.clear()).schema == RELIABILITY_SCHEMA
    assert standing(stated.clear()) is None


def test_standing(pairs: Pairs, stated: pl.DataFrame) -> None:
    found = standing(stated)
    assert found is not None
    assert (found.pairs, found.users) == (len(pairs), 50)
    assert found.ece == pytest.approx(
        calibration_error(pairs.stated_by(CALIBRATION), pairs.relevant)
    )
    inside = np.abs(pairs.values - pairs.mean) <= 1.6448536 * 0.8
    by_user = np.array([inside[pairs.users == user].mean() for user in range(50)])
    assert found.coverage == pytest.approx(by_user.mean())
    assert found.coverage_se == pytest.approx(by_user.std(ddof=1) / np.sqrt(50))


@pytest.mark.parametrize("spread", [0.0, 0.15])
def test_chance_explains_the_error_of_a_perfect_forecast(spread: float) -> None:
    """Also where the pairs of a user err together, which makes it larger."""
    found, explained = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        users = np.repeat(np.arange(60), 50)
        stated = rng.uniform(0.3, 0.7, len(users))
        own = rng.choice([-spread, spread], 60)[users]
        came = rng.random(len(users)) < stated + own
        found.append(calibration_error(stated, came))
        explained.append(chance_error(stated, came, users))
    assert np.mean(explained) == pytest.approx(np.mean(found), rel=0.1)
    assert chance_error(np.zeros(0), np.zeros(0, dtype=bool), np.zeros(0, dtype=np.int64)) == 0.0
