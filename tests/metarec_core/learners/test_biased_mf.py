"""Biased matrix factorisation against the objective it descends."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from metarec_core.episodes.types import TaskData
from metarec_core.learners.biased_mf import Ratings, biased_factors, less_bias, with_constant

CPU = torch.device("cpu")


def factors(data: TaskData, *, sweeps: int, reg: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    users, items = biased_factors(
        Ratings.of(data, CPU),
        dim=3,
        reg=reg,
        sweeps=sweeps,
        generator=torch.Generator().manual_seed(0),
    )
    return users.numpy(), items.numpy()


def standardised(data: TaskData) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users, items and ratings of all interactions."""
    matrix = data.interactions
    values = matrix.values.astype(float)
    rows = np.repeat(np.arange(data.n_users), matrix.counts())
    return rows, matrix.items, (values - values.mean()) / values.std()


def objective(data: TaskData, users: np.ndarray, items: np.ndarray, reg: float = 3.0) -> float:
    rows, columns, y = standardised(data)
    u, v = users[rows], items[columns]
    error = y - u[:, -1] - v[:, -1] - (u[:, :-1] * v[:, :-1]).sum(axis=1)
    return float((error**2).sum() + reg * ((users**2).sum() + (items**2).sum()))


def test_each_turn_descends_the_objective(train_data: TaskData) -> None:
    losses = [objective(train_data, *factors(train_data, sweeps=n)) for n in (1, 2, 4, 8, 200)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


def test_at_the_end_vector_and_bias_of_an_item_are_one_ridge_regression(
    train_data: TaskData,
) -> None:
    users, items = factors(train_data, sweeps=7)
    rows, columns, y = standardised(train_data)
    for item in range(0, 60, 7):
        mine = columns == item
        features = np.column_stack([users[rows[mine], :-1], np.ones(mine.sum())])
        model = Ridge(alpha=3.0, fit_intercept=False, solver="cholesky")
        model.fit(features, y[mine] - users[rows[mine], -1])
        np.testing.assert_allclose(items[item], model.coef_, atol=1e-9)


def test_planted_structure_is_explained(train_data: TaskData) -> None:
    users, items = factors(train_data, sweeps=20, reg=1.0)
    rows, columns, y = standardised(train_data)
    u, v = users[rows], items[columns]
    bias = y - u[:, -1] - v[:, -1]
    assert np.var(bias - (u[:, :-1] * v[:, :-1]).sum(axis=1)) < 0.5 * np.var(bias)


def test_ratings_are_standardised_and_less_bias_takes_the_other_side_s(
    train_data: TaskData,
) -> None:
    ratings = Ratings.of(train_data, CPU)
    values = train_data.interactions.values.astype(float)
    assert float(ratings.mu) == pytest.approx(values.mean())
    assert float(ratings.unit) == pytest.approx(values.std())
    items = torch.arange(60.0 * 2).double().reshape(60, 2)
    left = less_bias(ratings.by_user, items)
    expected = standardised(train_data)[2] - items[train_data.interactions.items, 1].numpy()
    np.testing.assert_allclose(left.targets, expected)
    assert with_constant(items)[3].tolist() == [6.0, 1.0]
