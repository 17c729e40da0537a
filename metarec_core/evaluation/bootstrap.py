"""Paired bootstrap over users: how sure a difference between two learners is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import polars as pl

from metarec_core.schema import Columns

_DRAWS_AT_ONCE = 4_000_000
"""Resampled users held at a time: 64 MB of indices and values."""


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """A mean difference between two learners on the same users.

    Attributes:
        left: Mean of the first learner over users; None without a user.
        right: Mean of the second.
        difference: ``left - right``.
        low: Lower end of the interval; None with fewer than two users.
        high: Upper end.
        n_users: Users that both learners have a figure for.
    """

    left: float | None
    right: float | None
    difference: float | None
    low: float | None
    high: float | None
    n_users: int


def paired_difference(
    left: pl.DataFrame,
    right: pl.DataFrame,
    metric: str,
    *,
    generator: np.random.Generator,
    resamples: int,
    confidence: float,
    support_size: int | None = None,
) -> PairedDifference:
    """Difference of a metric between two learners, with its interval.

    Only tasks that both learners have a figure for count. A user's tasks are averaged first, then
    users are resampled: tasks of one user (nested supports, one query) are no independent
    evidence, so that a user is drawn with all of them or not at all.

    Args:
        left: Per-task frame of the first learner (see ``evaluate``).
        right: That of the second.
        metric: Column to compare.
        generator: Source of the resamples.
        resamples: How many.
        confidence: Level of the interval, two-sided.
        support_size: Compare only tasks of this support size; None for all.

    Returns:
        The difference ``left - right``; its figures are None where there is no user for them.
    """
    keys = ["user", Columns.SUPPORT_SIZE]
    frames = [
        frame.select(*keys, pl.col(metric).alias(side)).drop_nulls(side)
        for frame, side in ((left, "left"), (right, "right"))
    ]
    tasks = frames[0].join(frames[1], on=keys, how="inner")
    if support_size is not None:
        tasks = tasks.filter(pl.col(Columns.SUPPORT_SIZE) == support_size)
    # Sorted twice: sums of floats and positions in the resamples both depend on the order.
    users = (
        tasks.sort(keys)
        .group_by("user", maintain_order=True)
        .agg(pl.col("left", "right").mean())
        .sort("user")
    )
    if users.is_empty():
        return PairedDifference(None, None, None, None, None, 0)
    left_users, right_users = users["left"].to_numpy(), users["right"].to_numpy()
    low, high = bootstrap_interval(
        left_users - right_users,
        generator=generator,
        resamples=resamples,
        confidence=confidence,
    )
    mean_left, mean_right = float(left_users.mean()), float(right_users.mean())
    return PairedDifference(
        left=mean_left,
        right=mean_right,
        difference=float((left_users - right_users).mean()),
        low=low,
        high=high,
        n_users=len(users),
    )


def bootstrap_interval(
    values: npt.NDArray[np.float64],
    *,
    generator: np.random.Generator,
    resamples: int,
    confidence: float,
    draws_at_once: int = _DRAWS_AT_ONCE,
) -> tuple[float | None, float | None]:
    """Interval of a mean by the expanded percentile bootstrap.

    The plain percentile interval is too narrow with few users, by ``sqrt((n-1)/n)`` and by normal
    instead of Student quantiles. The expanded one reads the resampled means at the tail
    probability ``Phi(-sqrt(n/(n-1)) t)``, ``t`` Student's quantile with ``n - 1`` degrees of
    freedom, which mends both (Hesterberg 2015, "What Teachers Should Know About the Bootstrap").
    With fewer than about ten users it is too narrow all the same, as no resample leaves their
    range: that of two users misses the true mean every second time. What is to be proven needs
    more users (``compare.MIN_USERS``).

    Args:
        values: One figure a user, ``[U]``, in a fixed order.
        generator: Source of the resamples.
        resamples: How many, R.
        confidence: Level, two-sided, in (0, 1).
        draws_at_once: Bound of the ``[resamples, U]`` draws held in memory; it does not change
            the result.

    Returns:
        Lower and upper end; None and None with fewer than two users, which say nothing about
        the spread between users.
    """
    n_users = len(values)
    if n_users < 2:
        return None, None
    means = np.empty(resamples)
    step = max(1, draws_at_once // n_users)
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        drawn = generator.integers(0, n_users, size=(stop - start, n_users))
        means[start:stop] = values[drawn].mean(axis=1)
    tail = _expanded_tail((1.0 - confidence) / 2.0, n_users)
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return float(low), float(high)


def bootstrap_intervals(
    values: npt.NDArray[np.float64],
    *,
    generator: np.random.Generator,
    resamples: int,
    confidence: float,
) -> npt.NDArray[np.float64]:
    """Intervals of many means over the same users, from the same resamples.

    The interval of each column is that of :func:`bootstrap_interval`; one draw of users serves
    all columns, which makes thousands of comparisons a product of two matrices.

    Args:
        values: One row a user, one column a mean, ``[U, M]``, without NaN.
        generator: Source of the resamples.
        resamples: How many, R.
        confidence: Level, two-sided, in (0, 1).

    Returns:
        Lower and upper ends, ``[2, M]``; NaN with fewer than two users.
    """
    n_users, n_columns = values.shape
    if n_users < 2:
        return np.full((2, n_columns), np.nan)
    step = max(1, _DRAWS_AT_ONCE // n_users)
    share = np.full(n_users, 1.0 / n_users)
    means = np.concatenate(
        [
            generator.multinomial(n_users, share, size=min(step, resamples - start)) @ values
            for start in range(0, resamples, step)
        ]
    )
    tail = _expanded_tail((1.0 - confidence) / 2.0, n_users)
    ends: npt.NDArray[np.float64] = np.quantile(means / n_users, [tail, 1.0 - tail], axis=0)
    return ends


def _expanded_tail(tail: float, n_users: int) -> float:
    student = _student_quantile(1.0 - tail, n_users - 1)
    return NormalDist().cdf(-math.sqrt(n_users / (n_users - 1)) * student)


def _student_quantile(probability: float, degrees: int) -> float:
    """Student's quantile by the expansion 26.7.5 of Abramowitz & Stegun.

    Its error is below 0.001 from 9 degrees of freedom on. With one to three it falls short, where
    the interval spans the extremes of the resamples whatever the quantile.
    """
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160,
    )
    return z + sum(term / math.pow(degrees, power) for power, term in enumerate(terms, start=1))
