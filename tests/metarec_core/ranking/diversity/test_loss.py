"""The share of accuracy that is lost, and its standard error over users."""

from __future__ import annotations

import numpy as np
import pytest

from metarec_core.ranking.diversity.loss import relative_loss


def test_the_share_is_that_of_the_means_and_the_error_that_of_other_users_drawn() -> None:
    """Users have one to four tasks, which lose together; the error is that of a bootstrap."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(150), rng.integers(1, 5, 150))
    before = rng.random(len(users))
    after = before * (0.95 + rng.normal(0.0, 0.2, 150)[users])
    found = relative_loss(before, after, users)
    assert found.n_users == 150
    assert found.share == pytest.approx(1.0 - after.mean() / before.mean())
    sums = np.array(
        [[part[users == user].sum() for user in range(150)] for part in (before, after)]
    )
    drawn = sums[:, rng.integers(0, 150, (4000, 150))].sum(axis=2)
    assert found.standard_error == pytest.approx((1.0 - drawn[1] / drawn[0]).std(), rel=0.05)
    # Tasks as users of their own would look surer than they are.
    alone = relative_loss(before, after, np.arange(len(users)))
    assert alone.standard_error < 0.8 * found.standard_error


def test_neither_the_order_nor_tasks_without_accuracy_count() -> None:
    users = np.array([7, 3, 7, 5])
    before, after = np.array([0.5, 1.0, 0.1, np.nan]), np.array([0.4, 1.0, 0.1, np.nan])
    found = relative_loss(before, after, users)
    assert found.n_users == 2
    assert found.share == pytest.approx(0.1 / 1.6)
    back = relative_loss(before[::-1], after[::-1], users[::-1])
    assert back.standard_error == pytest.approx(found.standard_error)


def test_the_same_lists_lose_nothing_for_sure() -> None:
    own = np.array([0.2, 0.9, 0.0])
    found = relative_loss(own, own, np.arange(3))
    assert (found.share, found.standard_error) == (0.0, 0.0)


def test_what_cannot_be_known_is_none() -> None:
    nothing = relative_loss(np.zeros(3), np.zeros(3), np.arange(3))
    assert (nothing.share, nothing.standard_error, nothing.n_users) == (None, None, 3)
    nobody = relative_loss(np.full(2, np.nan), np.full(2, np.nan), np.arange(2))
    assert (nobody.share, nobody.n_users) == (None, 0)
    single = relative_loss(np.array([0.5, 0.4]), np.array([0.5, 0.3]), np.zeros(2, dtype=np.int64))
    assert single.share == pytest.approx(1.0 / 9.0)
    assert (single.standard_error, single.n_users) == (None, 1)
