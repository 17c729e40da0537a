from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from metarec_core.calibration.sizes import KNOTS, at_knots, between_knots

sizes = arrays(np.int64, st.integers(0, 20), elements=st.integers(0, 10_000))
heights = arrays(np.float64, len(KNOTS), elements=st.floats(-5, 5))


@given(sizes, heights)
def test_between_knots_it_is_linear_in_the_logarithm(sizes: np.ndarray, values: np.ndarray) -> None:
    found = at_knots(values, *between_knots(sizes))
    np.testing.assert_allclose(
        found, np.interp(np.log1p(sizes), np.log1p(np.array(KNOTS)), values), atol=1e-9
    )


def test_a_knot_has_its_own_value() -> None:
    values = np.random.default_rng(0).random(len(KNOTS))
    assert np.array_equal(at_knots(values, *between_knots(np.array(KNOTS))), values)
