"""Chances of a forecast on a bounded scale: nobody gives six stars of five."""

from __future__ import annotations

import numpy as np

from metarec_core.calibration.sizes import Doubles

_EDGE = 0.05
"""Means nearer to a bound than this share of the scale count as this near."""

_LEAST_WEIGHT = 2.0
"""Least sum of the two parameters: a forecast that is less sure says no more than this."""

_LEAST_VARIANCE = 1e-12


def probit_above(
    mean: Doubles, variance: Doubles, *, threshold: float, low: float, high: float
) -> Doubles:
    """``Phi^-1 P(value > threshold)`` under the beta distribution of that mean and variance.

    A normal forecast near the end of a scale puts weight where no value can be, and takes it from
    where values are: of a mean of 3.5 stars and an sd of 1 it says that half of the values are
    above, a beta distribution between 0.5 and 5.5 stars says 52 %, and of a mean of 4 stars 71 %
    instead of 69 %. Ratings lean the same way.

    The distribution function is Paulson's approximation (1942, "An Approximate Normalization of
    the Analysis of Variance Distribution"; Abramowitz & Stegun 1964, 26.5.22), a normal one, to
    0.01. It rises with the mean, but for a few thousandths where the mean lies at a bound and the
    variance is large: such a forecast means outliers.

    Args:
        mean: Predicted values, any shape.
        variance: *Predictive* variances, noise included, of the same shape.
        threshold: Where relevance begins; between ``low`` and ``high``.
        low: Least value.
        high: Largest value.

    Returns:
        Of the shape of ``mean``; NaN where a forecast is.
    """
    width = high - low
    center = np.clip((np.asarray(mean, dtype=np.float64) - low) / width, _EDGE, 1.0 - _EDGE)
    spread = np.maximum(np.asarray(variance, dtype=np.float64), _LEAST_VARIANCE) / width**2
    room = center * (1.0 - center)
    weight = np.maximum(room / spread - 1.0, _LEAST_WEIGHT)
    above, below = center * weight, (1.0 - center) * weight
    place = (threshold - low) / width
    left, right = np.cbrt(below * place), np.cbrt(above * (1.0 - place))
    distance = right * (1.0 - 1.0 / (9.0 * above)) - left * (1.0 - 1.0 / (9.0 * below))
    found: Doubles = 3.0 * distance / np.sqrt(left**2 / below + right**2 / above)
    return found
