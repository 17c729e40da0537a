"""Covariances of list scores: of every learner that has one, against what it says elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from metarec_core.episodes.sampling import full_support
from metarec_core.episodes.types import Support, TaskData
from metarec_core.learners.average import Average
from metarec_core.learners.average_predictor import UncertainAveragePredictor
from metarec_core.learners.base import FitContext, Learner, UncertainScores
from metarec_core.learners.popularity import Popularity
from metarec_core.learners.registry import LEARNERS

UNSURE = ("amortised", "average", "blr", "content", "gaussian")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def learners(fit, train_data: TaskData, validation_data: TaskData) -> dict[str, Learner]:
    return {name: fit(name, train_data, validation_data) for name in LEARNERS}


@pytest.fixture(scope="module")
def support(test_data: TaskData) -> Support:
    """Some users without any interaction, some with all of theirs."""
    whole = full_support(test_data, np.arange(test_data.n_users))
    mask = whole.mask.clone()
    mask[:4] = False
    return Support(whole.items, whole.values, mask, whole.user_features)


@pytest.fixture(scope="module")
def items(support: Support, test_data: TaskData) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (len(support.items), test_data.n_items)
    return torch.rand(shape, generator=generator).argsort(dim=1)[:, :40]


def diagonal(covariance: Tensor) -> Tensor:
    return covariance.diagonal(dim1=1, dim2=2)


def test_who_knows_how_unsure_it_is(learners: dict[str, Learner], support: Support) -> None:
    unsure = [
        name
        for name, learner in learners.items()
        if isinstance(learner.adapt(support), UncertainScores)
    ]
    assert sorted(unsure) == sorted(UNSURE)


@pytest.mark.parametrize("name", UNSURE)
def test_it_is_a_covariance(
    name: str, learners: dict[str, Learner], support: Support, items: Tensor
) -> None:
    covariance = learners[name].adapt(support).score_covariance(items)
    assert covariance.shape == (len(items), 40, 40)
    assert covariance.dtype == torch.float64
    torch.testing.assert_close(covariance, covariance.mT, rtol=1e-12, atol=1e-14)
    eigenvalues = torch.linalg.eigvalsh(covariance)
    assert (eigenvalues[:, 0] > -1e-10 * eigenvalues[:, -1]).all()
    assert (eigenvalues[:, -1] > 0).all()


@pytest.mark.parametrize("name", UNSURE)
def test_an_item_has_it_with_another_whatever_else_is_asked(
    name: str, learners: dict[str, Learner], support: Support, items: Tensor
) -> None:
    predictor = learners[name].adapt(support)
    part = predictor.score_covariance(items[:, 5:9])
    whole = predictor.score_covariance(items)[:, 5:9, 5:9]
    torch.testing.assert_close(part, whole, rtol=1e-9, atol=1e-14)


def test_blr_s_diagonal_is_its_predictive_variance_without_noise(
    learners: dict[str, Learner], support: Support, items: Tensor
) -> None:
    blr = learners["blr"]
    predictor = blr.adapt(support)
    _, predictive = predictor.mean_var(items)
    noise = blr.learned.unit.square() * blr.learned.item_noise[items]
    own = diagonal(predictor.score_covariance(items))
    torch.testing.assert_close(own, predictive - noise, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["amortised", "content"])
def test_the_reader_s_diagonal_is_its_variance_of_scores(
    name: str, learners: dict[str, Learner], support: Support, items: Tensor
) -> None:
    predictor = learners[name].adapt(support)
    own = diagonal(predictor.score_covariance(items))
    torch.testing.assert_close(own, predictor.score_variance(items), rtol=1e-9, atol=1e-14)


def test_gaussian_adds_both_heads(
    learners: dict[str, Learner], support: Support, items: Tensor
) -> None:
    gaussian = learners["gaussian"]
    predictor = gaussian.adapt(support)
    covariance = predictor.score_covariance(items)
    _, predictive = predictor.mean_var(items)
    table, weight = gaussian._wide, gaussian.net.rating_weight.detach().double()
    assert weight.abs() > 1e-3
    taste = predictive / gaussian.net.unit.double().square() - table.noise[items]
    vectors = table.exposure[items]
    choice = ((vectors @ predictor._choice.covariance) * vectors).sum(dim=-1)
    expected = choice + weight.square() * taste
    torch.testing.assert_close(diagonal(covariance), expected, rtol=1e-9, atol=1e-12)


def test_an_average_adds_its_members(
    learners: dict[str, Learner], support: Support, items: Tensor
) -> None:
    average = learners["average"]
    predictor = average.adapt(support)
    assert isinstance(predictor, UncertainAveragePredictor)
    expected = torch.zeros(len(items), 40, 40, dtype=torch.float64)
    for place, member in enumerate(average.members):
        own = member.learner.adapt(support)
        if isinstance(own, UncertainScores):
            scores = own.scores().double()
            sd = scores.std(dim=1, correction=0)
            weight = average.lists(support.sizes, predictor.decided.float())[:, place].double()
            expected += (weight / sd).square()[:, None, None] * own.score_covariance(items)
    torch.testing.assert_close(predictor.score_covariance(items), expected, rtol=1e-5, atol=1e-9)


def test_an_average_of_members_that_are_never_unsure_is_not_either(
    train_data: TaskData, validation_data: TaskData, support: Support
) -> None:
    average = Average(Average.Config.model_validate({"members": ["popularity", "item_knn"]}))
    average.fit(train_data, validation_data, FitContext(seed=1, device=CPU))
    assert isinstance(average.members[0].learner, Popularity)
    assert not isinstance(average.adapt(support), UncertainScores)


@pytest.mark.parametrize("name", ["blr", "gaussian", "amortised", "average"])
def test_what_is_known_of_a_user_makes_scores_surer(
    name: str, learners: dict[str, Learner], test_data: TaskData, items: Tensor
) -> None:
    whole = full_support(test_data, np.arange(test_data.n_users))
    nothing = Support(whole.items, whole.values, torch.zeros_like(whole.mask), whole.user_features)
    known, prior = (
        diagonal(learners[name].adapt(support).score_covariance(items))
        for support in (whole, nothing)
    )
    assert known.mean() < prior.mean()
