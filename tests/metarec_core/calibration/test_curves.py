from __future__ import annotations

import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from metarec_core.calibration.curves import IDENTITY, Affine, Curve, Isotonic
from metarec_core.calibration.sizes import KNOTS, between_knots

N = len(KNOTS)


@st.composite
def isotonic(draw: st.DrawFn) -> Isotonic:
    n = draw(st.integers(2, 12))
    levels = draw(st.lists(st.floats(-6, 6), min_size=n, max_size=n, unique=True))
    rows = [sorted(draw(st.lists(st.floats(0, 1), min_size=n, max_size=n))) for _ in range(N)]
    return Isotonic(levels=tuple(sorted(levels)), heights=tuple(tuple(row) for row in rows))


@st.composite
def affine(draw: st.DrawFn) -> Affine:
    return Affine(
        shift=tuple(draw(st.lists(st.floats(-3, 3), min_size=N, max_size=N))),
        slope=tuple(draw(st.lists(st.floats(0.01, 5), min_size=N, max_size=N))),
    )


curves = st.one_of(affine(), isotonic())


@given(curves, st.lists(st.floats(-9, 9), min_size=2, max_size=30), st.integers(0, 500))
def test_a_curve_is_a_probability_and_never_falls(
    curve: Curve, forecasts: list[float], size: int
) -> None:
    z = np.sort(np.array(forecasts))
    found = curve.probability(z, *between_knots(np.full(len(z), size)))
    assert ((found >= 0.0) & (found <= 1.0)).all()
    # The normal distribution function is exact to a few last bits.
    assert (np.diff(found) >= -1e-15).all()


@given(isotonic(), st.lists(st.floats(-9, 9), min_size=1, max_size=20), st.integers(0, 500))
def test_isotonic_is_a_table_read_between_its_entries(
    curve: Isotonic, forecasts: list[float], size: int
) -> None:
    z = np.array(forecasts)
    found = curve.probability(z, *between_knots(np.full(len(z), size)))
    at_knots = [np.interp(z, curve.levels, row) for row in curve.heights]
    expected = [
        np.interp(np.log1p(size), np.log1p(np.array(KNOTS)), column)
        for column in np.array(at_knots).T
    ]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_the_identity_is_the_normal_distribution() -> None:
    z, sizes = np.linspace(-4, 4, 9), np.array([0, 1, 3, 7, 20, 50, 99, 200, 999])
    np.testing.assert_allclose(
        IDENTITY.probability(z, *between_knots(sizes)), stats.norm.cdf(z), atol=1e-14
    )


@pytest.mark.parametrize(
    ("kind", "fields", "fault"),
    [
        (Affine, {"shift": (0.0,) * N, "slope": (1.0,) * (N - 1) + (0.0,)}, "slope"),
        (Affine, {"shift": (0.0,) * (N - 1), "slope": (1.0,) * N}, "shift"),
        (Affine, {"shift": (float("nan"),) * N, "slope": (1.0,) * N}, "shift"),
        (Isotonic, {"levels": (0.0, 0.0), "heights": ((0.1, 0.2),) * N}, "ascend"),
        (Isotonic, {"levels": (0.0, 1.0), "heights": ((0.3, 0.2),) * N}, "fall"),
        (Isotonic, {"levels": (0.0, 1.0), "heights": ((0.3,),) * N}, "one for each"),
        (Isotonic, {"levels": (0.0, 1.0), "heights": ((0.3, 1.2),) * N}, "heights"),
    ],
)
def test_a_curve_that_is_none_is_refused(kind: type, fields: dict, fault: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=fault):
        kind(**fields)
