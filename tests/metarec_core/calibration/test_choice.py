"""What is stated wrongly is put right on users who taught nothing; what is right stays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.isotonic import IsotonicRegression

from metarec_core.calibration.choice import (
    FEWEST_USERS,
    Sample,
    choose_curve,
    fit_affine,
    fit_isotonic,
    rising,
)
from metarec_core.calibration.curves import IDENTITY
from metarec_core.calibration.sizes import KNOTS, between_knots
from metarec_core.evaluation.metrics import calibration_error

Truth = Callable[[np.ndarray, np.ndarray], np.ndarray]


def drawn(truth: Truth, *, seed: int, n_users: int = 400, each: int = 60) -> Sample:
    """Pairs with forecasts ``z`` that come with probability ``truth(z, sizes)``."""
    rng = np.random.default_rng(seed)
    n = n_users * each
    z, sizes = rng.normal(0.3, 1.0, n), rng.choice(KNOTS, n).astype(np.int64)
    return Sample(np.repeat(np.arange(n_users), each), z, sizes, rng.random(n) < truth(z, sizes))


def overconfident(z: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return stats.norm.cdf(0.2 + z * (0.3 + 0.1 * np.log1p(sizes)))


def bent(z: np.ndarray, _: np.ndarray) -> np.ndarray:
    return 0.1 + 0.3 * (z > 0.0) + 0.5 * (z > 1.0)


def as_said(z: np.ndarray, _: np.ndarray) -> np.ndarray:
    return stats.norm.cdf(z)


@pytest.mark.parametrize(("truth", "kind"), [(overconfident, "affine"), (bent, "isotonic")])
def test_errors_go_on_users_who_taught_nothing(truth: Truth, kind: str) -> None:
    curve, ece = choose_curve(drawn(truth, seed=1), may_be_right=True)
    other = drawn(truth, seed=2)
    place = between_knots(other.sizes)
    before = calibration_error(stats.norm.cdf(other.z), other.relevant)
    after = calibration_error(curve.probability(other.z, *place), other.relevant)
    assert curve.kind == kind
    assert before > 0.06
    assert after < 0.02
    assert ece == pytest.approx(after, abs=0.015)
    for size in KNOTS:
        part = other.of(other.sizes == size)
        stated = curve.probability(part.z, *between_knots(part.sizes))
        assert calibration_error(stated, part.relevant) < 0.06, f"at support size {size}"


def test_what_is_right_stays_as_it_is() -> None:
    curve, _ = choose_curve(drawn(as_said, seed=5), may_be_right=True)
    assert curve == IDENTITY


def test_a_score_is_never_taken_for_a_probability() -> None:
    curve, _ = choose_curve(drawn(as_said, seed=5), may_be_right=False)
    assert curve != IDENTITY


def test_few_users_correct_nothing_that_is_not_shown() -> None:
    """Each user is stricter or milder than the forecast: of few, the mean is chance."""
    rng = np.random.default_rng(4)
    strict = rng.normal(0.0, 0.8, 25)
    few = drawn(as_said, seed=6, n_users=25, each=200)
    probability = stats.norm.cdf(few.z / np.sqrt(1 - 0.64 * 0.5) + strict[few.users])
    came = Sample(few.users, few.z, few.sizes, rng.random(len(few.z)) < probability)
    curve, _ = choose_curve(came, may_be_right=True)
    assert curve == IDENTITY


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.floats(0.1, 9)), min_size=1, max_size=40),
)
def test_rising_is_isotonic_regression(pairs: list[tuple[float, float]]) -> None:
    values, weights = (np.array(column) for column in zip(*pairs, strict=True))
    expected = IsotonicRegression().fit_transform(
        np.arange(len(values)), values, sample_weight=weights
    )
    np.testing.assert_allclose(rising(values, weights), expected, atol=1e-9)


def test_the_affine_curve_is_found() -> None:
    """At each knot, and between knots where nobody was asked."""
    sample = drawn(lambda z, _: stats.norm.cdf(-0.4 + 0.6 * z), seed=7)
    curve = fit_affine(sample.of(np.isin(sample.sizes, (0, 50))))
    assert np.allclose(curve.shift, -0.4, atol=0.08)
    assert np.allclose(curve.slope, 0.6, atol=0.08)


@pytest.mark.parametrize("fit", [fit_affine, fit_isotonic])
def test_the_order_of_pairs_does_not_matter(fit: Callable) -> None:
    sample = drawn(overconfident, seed=8, n_users=60)
    order = np.random.default_rng(0).permutation(len(sample.z))
    z, sizes = np.linspace(-3, 3, 50), np.full(50, 7)
    one, other = (
        fit(each).probability(z, *between_knots(sizes)) for each in (sample, sample.of(order))
    )
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_forecasts_that_are_all_alike_give_a_level_curve() -> None:
    sample = drawn(lambda z, _: np.full(len(z), 0.3), seed=9, n_users=50)
    same = Sample(sample.users, np.full(len(sample.z), 1.5), sample.sizes, sample.relevant)
    curve, ece = choose_curve(same, may_be_right=False)
    found = curve.probability(np.array([-4.0, 1.5, 9.0]), *between_knots(np.array([0, 5, 50])))
    assert found[1] == pytest.approx(0.3, abs=0.05)
    assert ece < 0.05


def test_too_few_users_teach_nothing() -> None:
    sample = drawn(as_said, seed=1, n_users=FEWEST_USERS - 1, each=100)
    assert not sample.suffices()
    assert drawn(as_said, seed=1, n_users=FEWEST_USERS, each=100).suffices()
    assert not drawn(lambda z, _: np.zeros(len(z)), seed=1).suffices()
