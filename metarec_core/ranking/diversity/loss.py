"""How much accuracy lists lose against others of the same tasks, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metarec_core.episodes.types import IntArray
from metarec_core.ranking.diversity.pool import DoubleArray


@dataclass(frozen=True, slots=True)
class Loss:
    """A share of accuracy that is lost.

    Attributes:
        share: ``1 - mean of the lists / mean of the others``; below 0 for a gain; None where the
            others have no accuracy to lose.
        standard_error: Of ``share``, over users; None there, and of fewer than two users.
        n_users: Users with a task whose accuracy is known.
    """

    share: float | None
    standard_error: float | None
    n_users: int


def relative_loss(before: DoubleArray, after: DoubleArray, users: IntArray) -> Loss:
    """The loss from ``before`` to ``after``.

    It is a ratio of two sums over users, who are drawn whole: tasks of one user lose together. Its
    standard error is that of a ratio estimate (Cochran 1977, "Sampling Techniques", section 6.4),
    from what each user loses beyond the mean share of its own accuracy.

    Args:
        before: Accuracy of each task, ``[T]``; NaN where a task has none.
        after: Of the same tasks, ``[T]``; NaN for the same ones.
        users: Whose task each is, ``[T]``.
    """
    known = ~np.isnan(before)
    _, user = np.unique(users[known], return_inverse=True)
    n_users = int(user.max(initial=-1)) + 1
    own = np.bincount(user, before[known], minlength=n_users)
    lost = np.bincount(user, before[known] - after[known], minlength=n_users)
    total = float(own.sum())
    if total <= 0.0:
        return Loss(None, None, n_users)
    share = float(lost.sum()) / total
    if n_users < 2:
        return Loss(share, None, n_users)
    squares = float(np.square(lost - share * own).sum()) * n_users / (n_users - 1)
    return Loss(share, squares**0.5 / total, n_users)
