import numpy as np
import pytest
import torch

from metarec_core.episodes.sampling import evaluation_episodes
from metarec_core.episodes.types import Support, TaskData
from metarec_core.learners.base import FitContext
from metarec_core.learners.bias import Bias, BiasConfig


def fitted(data: TaskData, **settings: float) -> Bias:
    learner = Bias(BiasConfig(**settings))
    learner.fit(data, data, FitContext(seed=0, device=torch.device("cpu")))
    return learner


def ridge(data: TaskData, item_shrinkage: float, user_shrinkage: float) -> np.ndarray:
    """Item biases of the penalised least squares problem that the alternation descends."""
    matrix = data.interactions
    users = np.repeat(np.arange(matrix.n_users), matrix.counts())
    design = np.zeros((len(users), data.n_items + matrix.n_users))
    design[np.arange(len(users)), matrix.items] = 1.0
    design[np.arange(len(users)), data.n_items + users] = 1.0
    penalty = np.repeat([item_shrinkage, user_shrinkage], [data.n_items, matrix.n_users])
    target = matrix.values.astype(float) - matrix.values.astype(float).mean()
    normal = design.T @ design + np.diag(penalty)
    return np.linalg.solve(normal, design.T @ target)[: data.n_items]


@pytest.mark.parametrize(("item_shrinkage", "user_shrinkage"), [(5.0, 3.0), (1.0, 20.0)])
def test_biases_solve_the_damped_least_squares(
    train_data: TaskData, item_shrinkage: float, user_shrinkage: float
) -> None:
    learner = fitted(
        train_data, item_shrinkage=item_shrinkage, user_shrinkage=user_shrinkage, sweeps=100
    )
    expected = ridge(train_data, item_shrinkage, user_shrinkage)
    assert np.allclose(learner.item_bias, expected, atol=1e-4)
    assert float(learner.mu) == pytest.approx(train_data.interactions.values.mean(), abs=1e-5)


def test_a_user_bias_is_the_damped_mean_of_residuals(train_data: TaskData) -> None:
    learner = fitted(train_data)
    support = Support(
        torch.tensor([[3, 8, 0], [0, 0, 0]]),
        torch.tensor([[5.0, 2.0, 0.0], [0.0, 0.0, 0.0]]),
        torch.tensor([[True, True, False], [False, False, False]]),
        torch.zeros(2, 2),
    )
    mean, variance = learner.adapt(support).mean_var()

    mu, bias = float(learner.mu), learner.item_bias.numpy()
    user_bias = (5.0 - mu - bias[3] + 2.0 - mu - bias[8]) / (2 + 3.0)
    assert np.allclose(mean[0], mu + bias + user_bias, atol=1e-5)
    assert np.allclose(mean[1], mu + bias, atol=1e-5)
    assert (variance[0] < variance[1]).all()
    assert (variance > learner.noise).all()


@pytest.mark.parametrize("support_size", [0, 1, 8])
def test_nine_in_ten_ratings_fall_in_the_ninety_percent_interval(
    train_data: TaskData, test_data: TaskData, support_size: int
) -> None:
    learner = fitted(train_data)
    tasks = evaluation_episodes(
        test_data, np.arange(25), support_sizes=[support_size], max_query=20, seed=0
    )
    (batch,) = tasks.batches(100)
    episode = batch.episode
    mean, variance = learner.adapt(episode.support).mean_var(episode.items)
    inside = (episode.values - mean).abs() <= 1.645 * variance.sqrt()

    assert 0.8 < float(inside[episode.mask].float().mean()) < 0.99
