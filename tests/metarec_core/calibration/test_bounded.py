from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from metarec_core.calibration.bounded import probit_above
from metarec_core.calibration.curves import normal_cdf

SCALE = {"threshold": 3.5, "low": 0.5, "high": 5.5}


def above(mean: np.ndarray, variance: np.ndarray, **scale: float) -> np.ndarray:
    return normal_cdf(probit_above(mean, variance, **(SCALE | scale)))


@given(
    st.floats(0.9, 5.1),
    st.floats(0.15, 1.2),
    st.sampled_from([1.5, 2.5, 3.5, 4.5]),
)
def test_it_is_the_beta_distribution(mean: float, sd: float, threshold: float) -> None:
    center, spread = (mean - 0.5) / 5.0, sd**2 / 25.0
    weight = center * (1 - center) / spread - 1.0
    if weight < 2.0:
        return  # less sure than it is allowed to be
    exact = stats.beta.sf((threshold - 0.5) / 5.0, center * weight, (1 - center) * weight)
    found = above(np.array([mean]), np.array([sd**2]), threshold=threshold)[0]
    assert found == pytest.approx(exact, abs=0.012)


def test_far_from_the_bounds_it_is_the_normal_distribution() -> None:
    mean, sd = np.linspace(40, 60, 41), 2.0
    found = above(mean, np.full(41, sd**2), threshold=50.0, low=0.0, high=100.0)
    np.testing.assert_allclose(found, stats.norm.cdf((mean - 50) / sd), atol=2e-3)


@given(st.floats(0.0, 6.0), st.floats(0.0, 9.0))
def test_a_mirrored_forecast_has_the_other_chance(mean: float, variance: float) -> None:
    one = probit_above(np.array([mean]), np.array([variance]), threshold=3.5, low=0.5, high=5.5)
    other = probit_above(
        np.array([6.0 - mean]), np.array([variance]), threshold=2.5, low=0.5, high=5.5
    )
    np.testing.assert_allclose(one, -other, atol=1e-6)


@given(st.floats(0.3, 1.5))
def test_it_rises_with_the_mean_but_for_thousandths(sd: float) -> None:
    mean = np.linspace(0.0, 6.0, 601)
    found = above(mean, np.full(601, sd**2))
    assert (np.maximum.accumulate(found) - found).max() < 8e-3
    assert found[-1] - found[0] > 0.5


def test_unsure_of_three_and_a_half_stars_it_leans_upwards() -> None:
    found = above(np.array([3.5, 4.0]), np.array([1.0, 1.0]))
    assert found == pytest.approx([0.524, 0.708], abs=2e-3)


def test_unknown_forecasts_stay_unknown() -> None:
    found = probit_above(np.array([np.nan, 3.0]), np.array([1.0, np.nan]), **SCALE)
    assert np.isnan(found).all()
