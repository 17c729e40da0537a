"""Item-kNN and EASE against brute force, their cap, and what votes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import cosine_similarity

from metarec_core.episodes.sampling import full_support
from metarec_core.episodes.types import Support, TaskData
from metarec_core.errors import CatalogueTooLargeError, ModelError
from metarec_core.learners import item_item
from metarec_core.learners.base import FitContext
from metarec_core.learners.ease import Ease, EaseConfig
from metarec_core.learners.item_item import co_votes
from metarec_core.learners.item_knn import ItemKnn, ItemKnnConfig
from metarec_core.learners.signal import Signal
from metarec_core.schema import Feedback

CONTEXT = FitContext(seed=0, device=torch.device("cpu"))


def table(data: TaskData, votes: np.ndarray) -> np.ndarray:
    """Votes as a dense ``[U, I]``."""
    dense = np.zeros((data.n_users, data.n_items))
    rows = np.repeat(np.arange(data.n_users), data.interactions.counts())
    dense[rows, data.interactions.items] = votes
    return dense


def liked(data: TaskData) -> np.ndarray:
    return table(data, data.interactions.values >= 4.0)


@pytest.fixture(scope="module")
def implicit(train_data: TaskData) -> TaskData:
    """Event weights of 0.5 to 2.5."""
    scale = replace(train_data.scale, feedback=Feedback.IMPLICIT, minimum=0.0, relevant_from=0.0)
    matrix = replace(train_data.interactions, values=train_data.interactions.values / 2)
    return replace(train_data, scale=scale, interactions=matrix)


@pytest.mark.parametrize("shrinkage", [0.0, 20.0])
def test_item_knn_scores_are_sums_of_shrunk_cosines(
    train_data: TaskData, test_data: TaskData, shrinkage: float
) -> None:
    learner = ItemKnn(ItemKnnConfig(shrinkage=shrinkage, popularity=0.1))
    learner.fit(train_data, train_data, CONTEXT)
    x = liked(train_data)
    norms = np.linalg.norm(x, axis=0)
    similar = x.T @ x / np.maximum(np.outer(norms, norms) + shrinkage, 1e-12)
    if shrinkage == 0.0:
        np.testing.assert_allclose(similar, cosine_similarity(x.T), atol=1e-9)
    np.fill_diagonal(similar, 0.0)

    support = full_support(test_data, np.arange(test_data.n_users))
    expected = 0.1 * np.log1p(x.sum(axis=0)) + liked(test_data) @ similar
    np.testing.assert_allclose(learner.adapt(support).scores(), expected, atol=1e-5)


def test_ease_regresses_each_item_on_the_others(train_data: TaskData, test_data: TaskData) -> None:
    learner = Ease(EaseConfig(ridge=30.0, popularity=0.1))
    learner.fit(train_data, train_data, CONTEXT)
    x = liked(train_data)
    weights = np.zeros((train_data.n_items, train_data.n_items))
    for item in range(train_data.n_items):
        others = np.delete(np.arange(train_data.n_items), item)
        ridge = Ridge(alpha=30.0, fit_intercept=False, solver="cholesky")
        weights[others, item] = ridge.fit(x[:, others], x[:, item]).coef_

    support = full_support(test_data, np.arange(test_data.n_users))
    expected = 0.1 * np.log1p(x.sum(axis=0)) + liked(test_data) @ weights
    np.testing.assert_allclose(learner.adapt(support).scores(), expected, atol=1e-5)


@pytest.mark.parametrize("kind", [ItemKnn, Ease])
def test_a_catalogue_above_the_cap_is_refused_before_it_is_counted(
    kind: type[ItemKnn | Ease], train_data: TaskData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_item, "_blocks", lambda counts: pytest.fail("counted"))
    learner = kind(kind.Config(max_items=59))
    with pytest.raises(
        CatalogueTooLargeError, match=f"{kind.name}.*60 items.*max_items = 59"
    ) as error:
        learner.fit(train_data, train_data, CONTEXT)
    assert isinstance(error.value, ModelError)


@pytest.mark.parametrize("kind", [ItemKnn, Ease])
def test_a_catalogue_at_the_cap_is_fitted(kind: type[ItemKnn | Ease], train_data: TaskData) -> None:
    learner = kind(kind.Config(max_items=60))
    learner.fit(train_data, train_data, CONTEXT)
    assert learner.state()["weights"].shape == (60, 60)


@pytest.mark.parametrize("kind", [ItemKnn, Ease])
def test_without_a_support_popularity_orders_the_list(
    kind: type[ItemKnn | Ease], train_data: TaskData
) -> None:
    nothing = torch.zeros(2, 0)
    support = Support(nothing.long(), nothing, nothing.bool(), torch.zeros(2, 2))
    for weight in (0.0, 0.03):
        learner = kind(kind.Config(popularity=weight))
        learner.fit(train_data, train_data, CONTEXT)
        expected = weight * np.log1p(liked(train_data).sum(axis=0))
        np.testing.assert_allclose(learner.adapt(support).scores()[1], expected, atol=1e-6)


@pytest.mark.parametrize("kind", [ItemKnn, Ease])
def test_a_disliked_item_has_no_vote(kind: type[ItemKnn | Ease], train_data: TaskData) -> None:
    learner = kind(kind.Config())
    learner.fit(train_data, train_data, CONTEXT)
    support = Support(
        torch.tensor([[3, 8]]), torch.tensor([[5.0, 3.0]]), torch.ones(1, 2).bool(), torch.zeros(1)
    )
    shares = learner.adapt(support).shares(torch.arange(60)[None])
    assert (shares.support[..., 0] != 0).any()
    assert (shares.support[..., 1] == 0).all()


@pytest.mark.parametrize("kind", [ItemKnn, Ease])
def test_an_implicit_event_votes_with_its_weight(
    kind: type[ItemKnn | Ease], implicit: TaskData
) -> None:
    learner = kind(kind.Config(popularity=0.0))
    learner.fit(implicit, implicit, CONTEXT)
    x = table(implicit, implicit.interactions.values)
    gram = co_votes(implicit, Signal.of(implicit.scale))
    np.testing.assert_allclose(gram, x.T @ x, atol=1e-9)

    def scores(weight: float) -> torch.Tensor:
        return learner.adapt(
            Support(
                torch.tensor([[7]]),
                torch.tensor([[weight]]),
                torch.ones(1, 1).bool(),
                torch.zeros(1),
            )
        ).scores()

    torch.testing.assert_close(scores(3.0), 3.0 * scores(1.0))
    assert scores(1.0).abs().max() > 0


def test_blocks_of_users_add_up_to_the_whole(
    train_data: TaskData, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal = Signal.of(train_data.scale)
    whole = co_votes(train_data, signal)
    monkeypatch.setattr(item_item, "_PAIRS_AT_ONCE", 50)
    np.testing.assert_array_equal(co_votes(train_data, signal), whole)
    np.testing.assert_array_equal(whole, liked(train_data).T @ liked(train_data))


def test_ratings_on_a_scale_that_binary_fractions_miss_decide_alike_once_saved() -> None:
    signal = replace(Signal(explicit=True, relevant_from=float(np.float32(3.7))))
    values = torch.tensor([[3.7, 3.6]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    again = Signal.from_state(signal.state())
    assert signal.votes(values, mask).tolist() == [[1.0, 0.0]]
    assert again.votes(values, mask).tolist() == [[1.0, 0.0]]
