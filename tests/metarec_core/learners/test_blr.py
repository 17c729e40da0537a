"""Bayesian regression on factors: exact shares, calibrated variance, rare items, implicit data."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from metarec_core.episodes.sampling import evaluation_episodes, full_support
from metarec_core.episodes.types import Support, TaskData
from metarec_core.learners.base import FitContext, GaussianPredictor
from metarec_core.learners.bias import Bias, BiasConfig
from metarec_core.learners.blr import Blr, BlrConfig
from metarec_core.schema import Feedback

CONTEXT = FitContext(seed=0, device=torch.device("cpu"))
CONFIG = BlrConfig(dim=3, reg=3.0)


@pytest.fixture(scope="module")
def data(make_planted) -> TaskData:
    return make_planted(600, seed=1)


@pytest.fixture(scope="module")
def fitted(data: TaskData) -> Blr:
    learner = Blr(CONFIG)
    learner.fit(data, data, CONTEXT)
    return learner


def without_item(data: TaskData, item: int) -> TaskData:
    matrix = data.interactions
    kept = matrix.items != item
    rows = np.repeat(np.arange(data.n_users), matrix.counts())[kept]
    counts = np.bincount(rows, minlength=data.n_users)
    return replace(
        data,
        interactions=replace(
            matrix,
            indptr=np.concatenate([[0], np.cumsum(counts)]),
            items=matrix.items[kept],
            values=matrix.values[kept],
        ),
    )


def test_the_forecast_is_the_regression_written_out(fitted: Blr, test_data: TaskData) -> None:
    state = {name: tensor.numpy() for name, tensor in fitted.state().items()}
    support = full_support(test_data, np.arange(test_data.n_users))
    predictor = fitted.adapt(support)
    mean, variance = predictor.mean_var()
    bias, noise = state["items"][:, -1], state["item_noise"]
    v = np.column_stack([state["items"][:, :-1], np.ones(len(bias))])
    prior = np.linalg.inv(state["prior_covariance"])
    for row in range(test_data.n_users):
        real = support.mask[row].numpy()
        items = support.items[row].numpy()[real]
        y = (support.values[row].numpy()[real] - state["mu"]) / state["unit"] - bias[items]
        scaled = v[items] / noise[items, None]
        covariance = np.linalg.inv(prior + v[items].T @ scaled)
        w = covariance @ (prior @ state["prior_mean"] + scaled.T @ y)
        open_ = np.einsum("id,de,ie->i", v, covariance, v)
        np.testing.assert_allclose(mean[row], state["mu"] + state["unit"] * (bias + v @ w))
        np.testing.assert_allclose(variance[row], state["unit"] ** 2 * (open_ + noise))
        np.testing.assert_allclose(predictor.covariance[row], covariance, atol=1e-9)


def test_shares_sum_in_float64_and_it_is_gaussian(fitted: Blr, test_data: TaskData) -> None:
    support = full_support(test_data, np.arange(test_data.n_users))
    predictor = fitted.adapt(support)
    assert isinstance(predictor, GaussianPredictor)
    items = torch.arange(10).expand(test_data.n_users, -1)
    torch.testing.assert_close(
        predictor.shares(items).total(), predictor.scores(items), atol=1e-12, rtol=1e-12
    )


def test_new_users_are_forecast_better_than_by_biases_and_intervals_cover(
    fitted: Blr, data: TaskData, make_planted
) -> None:
    bias = Bias(BiasConfig())
    bias.fit(data, data, CONTEXT)
    test = make_planted(300, seed=3)
    tasks = evaluation_episodes(
        test, np.arange(test.n_users), support_sizes=(10,), max_query=20, seed=0
    )
    errors: dict[str, list[np.ndarray]] = {"blr": [], "bias": []}
    covered = []
    for batch in tasks.batches(100):
        episode = batch.episode
        for name, learner in (("blr", fitted), ("bias", bias)):
            mean, variance = learner.adapt(episode.support).mean_var(episode.items)
            error = (episode.values - mean)[episode.mask].abs()
            errors[name].append(error.numpy())
            if name == "blr":
                covered.append((error < 1.645 * variance[episode.mask].sqrt()).numpy())
    mae = {name: float(np.concatenate(parts).mean()) for name, parts in errors.items()}
    assert mae["blr"] < 0.9 * mae["bias"]
    assert 0.86 < np.concatenate(covered).mean() < 0.95


def test_an_item_that_nobody_rated_is_a_typical_one_and_the_least_sure(data: TaskData) -> None:
    unseen = 5
    learner = Blr(CONFIG)
    learner.fit(without_item(data, unseen), data, CONTEXT)
    noise = learner.state()["item_noise"]
    assert noise.argmax() == unseen
    counts = np.bincount(data.interactions.items, minlength=60)
    counts[unseen] = 0
    assert np.corrcoef(np.log1p(counts), noise)[0, 1] < -0.5
    items = learner.state()["items"]
    share = torch.from_numpy(counts / counts.sum())
    torch.testing.assert_close(items[unseen], share @ items)
    support = full_support(data, np.arange(20))
    mean, variance = learner.adapt(support).mean_var()
    assert torch.isfinite(mean).all()
    assert (variance.argmax(dim=1) == unseen).float().mean() > 0.5


def test_without_a_support_the_prior_speaks(fitted: Blr) -> None:
    nothing = torch.zeros(1, 0)
    support = Support(nothing.long(), nothing, nothing.bool(), torch.zeros(1, 2))
    predictor = fitted.adapt(support)
    state = fitted.state()
    torch.testing.assert_close(predictor.mean[0], state["prior_mean"])
    torch.testing.assert_close(predictor.covariance[0], state["prior_covariance"])


def test_a_scale_twice_as_wide_gives_the_same_forecasts_on_it(
    fitted: Blr, data: TaskData, test_data: TaskData
) -> None:
    def doubled(part: TaskData) -> TaskData:
        matrix = part.interactions
        return replace(part, interactions=replace(matrix, values=2 * matrix.values))

    learner = Blr(CONFIG)
    learner.fit(doubled(data), data, CONTEXT)
    users = np.arange(test_data.n_users)
    mean, variance = fitted.adapt(full_support(test_data, users)).mean_var()
    wide = learner.adapt(full_support(doubled(test_data), users)).mean_var()
    torch.testing.assert_close(wide[0], 2 * mean, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(wide[1], 4 * variance, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("constant", [True, False])
def test_implicit_weights_are_forecast_like_ratings(data: TaskData, constant: bool) -> None:
    matrix = data.interactions
    values = np.ones_like(matrix.values) if constant else matrix.values**2
    scale = replace(data.scale, feedback=Feedback.IMPLICIT, minimum=0.0, relevant_from=0.0)
    implicit = replace(data, scale=scale, interactions=replace(matrix, values=values))
    learner = Blr(CONFIG)
    learner.fit(implicit, implicit, CONTEXT)
    mean, variance = learner.adapt(full_support(implicit, np.arange(10))).mean_var()
    assert torch.isfinite(mean).all()
    assert (variance > 0).all()
    if constant:
        torch.testing.assert_close(mean, torch.ones_like(mean), atol=1e-3, rtol=0)
