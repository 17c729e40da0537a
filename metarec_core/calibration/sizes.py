"""Support sizes at which calibration is learned; between them it is interpolated."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

KNOTS = (0, 1, 2, 5, 10, 20, 50, 100, 200)
"""Histories of more than 200 interactions are taken to be as well known as those of 200."""

_PLACES = np.log1p(np.array(KNOTS, dtype=np.float64))


def between_knots(sizes: npt.NDArray[np.integer]) -> tuple[Integers, Doubles]:
    """Where support sizes lie among :data:`KNOTS`, on the scale ``log(1 + size)``.

    Args:
        sizes: Of any shape, not negative.

    Returns:
        The knot to the left, at most the last but one, and the share of the one to its right, in
        [0, 1]; both of the shape of ``sizes``.
    """
    places = np.log1p(np.asarray(sizes, dtype=np.float64))
    left = np.clip(np.searchsorted(_PLACES, places, side="right") - 1, 0, len(KNOTS) - 2)
    share = (places - _PLACES[left]) / (_PLACES[left + 1] - _PLACES[left])
    return left.astype(np.int64), np.clip(share, 0.0, 1.0)


def at_knots(values: Doubles, left: Integers, share: Doubles) -> Doubles:
    """Values at the knots, ``[S, ...]``, interpolated where :func:`between_knots` says."""
    found: Doubles = (1.0 - share) * values[left] + share * values[left + 1]
    return found
