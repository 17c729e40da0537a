"""iALS: fold-in against numpy, what votes, and popularity without a support."""

from dataclasses import replace

import numpy as np
import torch

from metarec_core.episodes.sampling import full_support
from metarec_core.episodes.types import Support, TaskData
from metarec_core.learners.base import FitContext
from metarec_core.learners.ials import Ials, IalsConfig
from metarec_core.schema import Feedback

CONTEXT = FitContext(seed=0, device=torch.device("cpu"))
CONFIG = IalsConfig(dim=5, sweeps=8, popularity=0.1)


def fitted(data: TaskData, config: IalsConfig = CONFIG) -> Ials:
    learner = Ials(config)
    learner.fit(data, data, CONTEXT)
    return learner


def implicit_of(data: TaskData) -> TaskData:
    """Event weights of 0.5 to 2.5."""
    scale = replace(data.scale, feedback=Feedback.IMPLICIT, minimum=0.0, relevant_from=0.0)
    return replace(
        data,
        scale=scale,
        interactions=replace(data.interactions, values=data.interactions.values / 2),
    )


def popularity(data: TaskData) -> np.ndarray:
    relevant = data.interactions.values >= data.scale.relevant_from
    return np.log1p(np.bincount(data.interactions.items[relevant], minlength=data.n_items))


def folded_in(learner: Ials, support: Support, votes: np.ndarray, data: TaskData) -> np.ndarray:
    """Scores of each user, one after the other."""
    v = learner.state()["vectors"].double().numpy()
    met = (v != 0).any(axis=1).sum()
    config = learner.config
    rows = []
    for items, vote in zip(support.items.numpy(), votes, strict=True):
        penalty = config.reg * ((vote > 0).sum() + config.unobserved * met) ** config.nu
        matrix = config.unobserved * v.T @ v + penalty * np.eye(v.shape[1])
        matrix += (v[items] * vote[:, None]).T @ v[items]
        rows.append(v @ np.linalg.solve(matrix, v[items].T @ vote))
    return config.popularity * popularity(data) + np.array(rows)


def test_a_new_user_is_the_regression_of_training(
    train_data: TaskData, test_data: TaskData
) -> None:
    learner = fitted(train_data)
    support = full_support(test_data, np.arange(test_data.n_users))
    votes = ((support.values >= 4.0) & support.mask).double().numpy()
    np.testing.assert_allclose(
        learner.adapt(support).scores(),
        folded_in(learner, support, votes, train_data),
        atol=1e-6,
    )


def test_an_implicit_event_votes_with_its_weight(train_data: TaskData, test_data: TaskData) -> None:
    data = implicit_of(train_data)
    learner = fitted(data)
    support = full_support(implicit_of(test_data), np.arange(test_data.n_users))
    predictor = learner.adapt(support)
    expected = folded_in(learner, support, support.values.double().numpy(), data)
    np.testing.assert_allclose(predictor.scores(), expected, atol=1e-6)
    assert predictor.mean_var()[0].isnan().all()


def test_shares_sum_in_float64_and_a_disliked_item_has_none(
    train_data: TaskData, test_data: TaskData
) -> None:
    support = full_support(test_data, np.arange(test_data.n_users))
    predictor = fitted(train_data).adapt(support)
    items = torch.arange(10).expand(test_data.n_users, -1)
    shares = predictor.shares(items)
    torch.testing.assert_close(shares.total(), predictor.scores(items), atol=1e-12, rtol=1e-12)
    silent = (support.values < 4.0) | ~support.mask
    assert (shares.support.movedim(1, 2)[silent] == 0).all()
    assert (shares.support.movedim(1, 2)[~silent] != 0).any()
    assert (shares.prior == 0).all()


def test_without_a_support_popularity_orders_the_list(train_data: TaskData) -> None:
    nothing = torch.zeros(2, 0)
    support = Support(nothing.long(), nothing, nothing.bool(), torch.zeros(2, 2))
    scores = fitted(train_data).adapt(support).scores()
    np.testing.assert_allclose(scores[1], 0.1 * popularity(train_data), atol=1e-6)


def test_the_seed_moves_the_start(train_data: TaskData) -> None:
    states = []
    for seed in (0, 0, 1):
        learner = Ials(CONFIG)
        learner.fit(train_data, train_data, replace(CONTEXT, seed=seed))
        states.append(learner.state()["vectors"])
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_training_lists_its_own_users_well(train_data: TaskData) -> None:
    """Liked items that were left out of the support rank above what popularity gives them."""
    learner = fitted(train_data, IalsConfig(dim=5, popularity=0.0))
    support = full_support(train_data, np.arange(train_data.n_users))
    liked = (support.values >= 4.0) & support.mask
    scores = learner.adapt(support).scores()
    mean = scores.gather(1, support.items)[liked].mean()
    assert mean > scores.mean() + 0.2
