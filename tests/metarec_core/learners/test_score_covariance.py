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


def uncertain_members(average: Learner, support: Support) -> list[tuple[UncertainScores, Tensor]]:
    """Members with a covariance, and what their scores are multiplied with, ``[B, 1]``."""
    predictor = average.adapt(support)
    assert isinstance(predictor, UncertainAveragePredictor)
    found = []
    for place, member in enumerate(average.members):
        own = member.learner.adapt(support)
        if isinstance(own, UncertainScores):
            sd = own.scores().double().std(dim=1, correction=0)
            weight = average.lists(support.sizes, predictor.decided.float())[:, place].double()
            found.append((own, (weight / sd)[:, None]))
    return found


def test_an_average_bounds_what_its_members_may_err_together(
    learners: dict[str, Learner], support: Support, items: Tensor
) -> None:
    """However they do: were all errors of a member those of another, and were they none."""
    average = learners["average"]
    predictor = average.adapt(support)
    bound = predictor.score_covariance(items)
    members = uncertain_members(average, support)
    assert len(members) > 1
    parts = [factor[..., None].square() * own.score_covariance(items) for own, factor in members]
    combinations = torch.randn(
        40, 200, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    combinations[:, 0], combinations[:, 1] = 1.0, torch.eye(40, dtype=torch.float64)[3]

    def sds(covariance: Tensor) -> Tensor:
        return (combinations * (covariance @ combinations)).sum(dim=1).clamp_min(0.0).sqrt()

    together = sum(sds(part) for part in parts)
    assert (sds(bound) >= together * (1.0 - 1e-5)).all()
    # Close to it too: for the scores themselves the members' sds about add up.
    own = sum(diagonal(part).sqrt() for part in parts)
    ratio = diagonal(bound).sqrt() / own
    assert (ratio >= 1.0 - 1e-5).all()
    assert ratio.mean() < 1.1


def test_an_average_s_contrasts_err_as_if_members_did_so_together(
    learners: dict[str, Learner], support: Support, test_data: TaskData
) -> None:
    average = learners["average"]
    groups = torch.zeros(2, test_data.n_items, dtype=torch.float64)
    groups[0, [1, 5, 8]], groups[1, 4] = 1.0 / 3.0, 1.0
    members = uncertain_members(average, support)
    expected = sum(factor * own.contrast_variance(groups).sqrt() for own, factor in members)
    found = average.adapt(support).contrast_variance(groups)
    torch.testing.assert_close(found, expected.square(), rtol=1e-5, atol=1e-12)


class Twin:
    """A member whose scores are unsure; ``seed`` says which."""

    def __init__(self, seed: int = 1) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._scores = torch.randn(3, 50, generator=generator, dtype=torch.float64)
        self._root = torch.randn(50, 4, generator=generator, dtype=torch.float64)

    def scores(self, items: Tensor | None = None) -> Tensor:
        return self._scores if items is None else self._scores.gather(1, items)

    def mean_var(self, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        unknown = torch.full_like(self.scores(items), torch.nan)
        return unknown, unknown

    def contrast_variance(self, groups: Tensor) -> Tensor:
        own = groups @ self._root - self._root.mean(dim=0)
        return own.square().sum(dim=1).expand(3, -1)

    def score_covariance(self, items: Tensor) -> Tensor:
        roots = self._root[items]
        return roots @ roots.mT


class Silent(Twin):
    """A member that scores all items alike, and is sure of it."""

    def scores(self, items: Tensor | None = None) -> Tensor:
        return torch.ones_like(super().scores(items))

    def score_covariance(self, items: Tensor) -> Tensor:
        return torch.zeros_like(super().score_covariance(items))


def average_of(members: list[Twin], weight: float) -> UncertainAveragePredictor:
    nothing = torch.zeros(3, 1)
    known = Support(nothing.long(), nothing, nothing.bool(), torch.zeros(3, 0))
    weights = torch.full((3, 1), weight)
    return UncertainAveragePredictor(members, lambda *_: weights, None, known)


def test_copies_of_a_member_are_no_surer_than_one(items: Tensor) -> None:
    groups = torch.eye(50, dtype=torch.float64)[:5]
    one = average_of([Twin()], 1.0)
    for count in (2, 4):
        copies = average_of([*(Twin() for _ in range(count)), Silent()], 1.0 / count)
        torch.testing.assert_close(copies.scores(), one.scores())
        torch.testing.assert_close(copies.contrast_variance(groups), one.contrast_variance(groups))
        asked = items[:3, :20].clamp_max(49)
        torch.testing.assert_close(copies.score_covariance(asked), one.score_covariance(asked))


def test_members_that_are_sure_of_everything_make_a_sure_average(items: Tensor) -> None:
    sure = average_of([Silent(), Silent()], 0.5).score_covariance(items[:3, :20].clamp_max(49))
    assert (sure == 0.0).all()


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
