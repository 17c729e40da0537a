"""Thompson sampling: the list of a preference that is drawn from the posterior."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from metarec_core.episodes.types import IntArray
from metarec_core.errors import ModelError
from metarec_core.ranking.diversity.compiled import DoubleArray, compiled
from metarec_core.ranking.diversity.method import Method, Request
from metarec_core.ranking.diversity.popularity import by_value
from metarec_core.ranking.grid import on_grid

_JITTER = 1e-9
"""Share of the mean variance that is added to each variance: with fewer dimensions than candidates
a covariance is singular, and its factor would hang on last bits."""

_INDEFINITE = 1e-6
"""Share of the mean variance below zero from which on a matrix is no covariance."""

_GAMMA, _MIX_1, _MIX_2 = (
    np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def order(request: Request) -> IntArray:
    """Positions by ``score + s L e``, ``L L'`` the posterior covariance, ``e`` standard normal.

    With strength ``s`` 1 this is Thompson sampling (Thompson 1933; Chapelle & Li 2011, "An
    Empirical Evaluation of Thompson Sampling"): an item comes first as often as it is probably the
    best one. Draws depend on seed, user and item alone, by a counter-based generator (SplitMix64,
    Steele et al. 2014, "Fast Splittable Pseudorandom Number Generators", and Box & Muller 1958).

    Args:
        request: The candidates, ``[B, P]``, with their covariance and the users' keys.

    Returns:
        ``[B, length]`` int64, -1 behind the last candidate.

    Raises:
        ModelError: If a covariance is not positive semidefinite.
    """
    pool = request.pool
    assert pool.covariance is not None
    assert pool.users is not None
    noise, sound = _draws(pool.covariance, pool.users, pool.items, request.counts, request.seed)
    if not sound.all():
        raise ModelError(
            "covariance of list scores",
            found=f"{int((~sound).sum())} matrices with a negative eigenvalue",
            wanted="positive semidefinite matrices",
            next_step="compute score_covariance in float64 as a product of a matrix with its own "
            "transpose",
        )
    scores = np.where(pool.items >= 0, pool.scores, 0.0)
    return by_value(on_grid(scores + request.strength * noise), request)


@compiled
def _mixed(state: np.uint64) -> np.uint64:
    """The output of SplitMix64 for a state."""
    state = (state ^ (state >> np.uint64(30))) * _MIX_1
    state = (state ^ (state >> np.uint64(27))) * _MIX_2
    return state ^ (state >> np.uint64(31))


@compiled
def _normal(key: np.uint64, item: int) -> float:
    """A standard normal draw of its own for each key and item."""
    first = _mixed(key + _GAMMA * np.uint64(2 * item + 1))
    second = _mixed(key + _GAMMA * np.uint64(2 * item + 2))
    # In (0, 1]: the logarithm of 0 is infinite.
    uniform = (float(first >> np.uint64(11)) + 1.0) * 2.0**-53
    angle = float(second >> np.uint64(11)) * 2.0**-53
    return math.sqrt(-2.0 * math.log(uniform)) * math.cos(2.0 * math.pi * angle)


@compiled
def _draws(
    covariance: DoubleArray, users: IntArray, items: IntArray, counts: IntArray, seed: int
) -> tuple[DoubleArray, npt.NDArray[np.bool_]]:
    """``L e`` of each user, ``[B, P]``, and whether the covariance has such a factor, ``[B]``."""
    n_users, width = items.shape
    factor, row_left = np.empty((width, width)), np.empty(width)
    noise, sound = np.zeros((n_users, width)), np.ones(n_users, dtype=np.bool_)
    for row in range(n_users):
        n, mean = counts[row], 0.0
        for place in range(n):
            mean += covariance[row, place, place] / n
        key = _mixed(np.uint64(users[row]) + _GAMMA * np.uint64(seed + 1))
        # Row after row of the upper triangular factor: what the rows above leave, by its root.
        for place in range(n):
            for other in range(place, n):
                row_left[other] = covariance[row, place, other]
            row_left[place] += _JITTER * mean
            _less_rows_above(factor, place, n, row_left)
            pivot = row_left[place]
            if pivot <= 0.0:
                sound[row] &= pivot >= -_INDEFINITE * mean
                factor[place, place:n] = 0.0
                continue
            scale = 1.0 / math.sqrt(pivot)
            draw = _normal(key, items[row, place])
            for other in range(place, n):
                factor[place, other] = row_left[other] * scale
                noise[row, other] += draw * factor[place, other]
    return noise, sound


@compiled
def _less_rows_above(factor: DoubleArray, place: int, n: int, row_left: DoubleArray) -> None:
    """Take what the rows above say of a row off it, from ``place`` on."""
    fours = place - place % 4
    # Four rows a pass: what is left is read and written a quarter as often.
    for above in range(0, fours, 4):
        a, b = factor[above, place], factor[above + 1, place]
        c, d = factor[above + 2, place], factor[above + 3, place]
        for other in range(place, n):
            row_left[other] -= (
                a * factor[above, other]
                + b * factor[above + 1, other]
                + c * factor[above + 2, other]
                + d * factor[above + 3, other]
            )
    for above in range(fours, place):
        a = factor[above, place]
        for other in range(place, n):
            row_left[other] -= a * factor[above, other]


SAMPLE = Method(order, covariance=True)
