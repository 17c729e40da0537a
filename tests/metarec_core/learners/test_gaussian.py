"""The flagship: exact reasons in float64, cold items from content, implicit feedback."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from metarec_core.episodes.sampling import evaluation_episodes, full_support
from metarec_core.episodes.types import Support, TaskData
from metarec_core.evaluation import evaluate
from metarec_core.learners.base import FitContext
from metarec_core.learners.gaussian import Gaussian, GaussianConfig
from metarec_core.learners.popularity import Popularity
from metarec_core.schema import Feedback
from metarec_core.training.loop import LoopConfig

CPU = torch.device("cpu")
CONTEXT = FitContext(seed=1, device=CPU)
CONFIG = GaussianConfig(
    taste_dim=4, exposure_dim=6, hidden=8, loop=LoopConfig(epochs=15, batch_tasks=16)
)


@pytest.fixture(scope="module")
def data(make_planted) -> TaskData:
    return make_planted(300, seed=1)


@pytest.fixture(scope="module")
def fitted(data: TaskData, make_planted) -> Gaussian:
    learner = Gaussian(CONFIG)
    learner.fit(data, make_planted(60, seed=2), CONTEXT)
    return learner


def without(support: Support, place: int) -> Support:
    mask = support.mask.clone()
    mask[:, place] = False
    return replace(support, mask=mask)


def test_shares_equal_a_recomputation_to_machine_precision(
    fitted: Gaussian, data: TaskData
) -> None:
    support = full_support(data, np.arange(20))
    items = torch.arange(10).expand(20, -1)
    predictor = fitted.adapt(support)
    shares = predictor.shares(items)
    torch.testing.assert_close(shares.total(), predictor.scores(items), atol=1e-12, rtol=1e-12)
    # A refit whose targets are all zero keeps the prior alone: that is the prior's share.
    nothing = fitted.adapt(replace(support, mask=torch.zeros_like(support.mask)))
    assert not torch.allclose(nothing.shares(items).prior, shares.prior)
    assert (shares.support.movedim(1, 2)[~support.mask] == 0).all()


def test_the_posterior_narrows_as_the_support_grows(fitted: Gaussian, data: TaskData) -> None:
    support = full_support(data, np.arange(20))
    items = torch.arange(10).expand(20, -1)
    known = fitted.adapt(support).mean_var(items)[1]
    fewer = fitted.adapt(without(support, 0)).mean_var(items)[1]
    assert (known <= fewer + 1e-12).all()


def test_it_beats_popularity_on_planted_structure(
    fitted: Gaussian, data: TaskData, make_planted
) -> None:
    test = make_planted(150, seed=3)
    popularity = Popularity(Popularity.Config())
    popularity.fit(data, data, CONTEXT)
    tasks = evaluation_episodes(
        test, np.arange(test.n_users), support_sizes=(10,), max_query=20, seed=0
    )
    ours, theirs = (
        evaluate(learner, tasks, device=CPU)["ndcg_at_10"].mean()
        for learner in (fitted, popularity)
    )
    assert ours > theirs + 0.03


def test_an_item_without_interactions_is_placed_by_its_content(make_planted) -> None:
    """Twins of content: the one that nobody met is forecast like the one that all know."""
    data = make_planted(300, seed=1)
    matrix = data.interactions
    twin, known = 59, 0
    features = data.item_features.copy()
    features[twin] = features[known]
    kept = matrix.items != twin
    rows = np.repeat(np.arange(data.n_users), matrix.counts())[kept]
    counts = np.bincount(rows, minlength=data.n_users)
    cold = replace(
        data,
        item_features=features,
        interactions=replace(
            matrix,
            indptr=np.concatenate([[0], np.cumsum(counts)]),
            items=matrix.items[kept],
            values=matrix.values[kept],
        ),
    )
    learner = Gaussian(CONFIG)
    learner.fit(cold, cold, CONTEXT)
    predictor = learner.adapt(full_support(cold, np.arange(100)))
    mean, variance = predictor.mean_var()
    twins = np.corrcoef(mean[:, twin], mean[:, known])[0, 1]
    others = [np.corrcoef(mean[:, twin], mean[:, item])[0, 1] for item in range(1, 30)]
    assert twins > np.mean(others)
    assert (variance[:, twin] > variance[:, known]).all()


def test_without_weight_on_lists_it_forecasts_as_well_and_ranks_like_popularity(
    data: TaskData, make_planted
) -> None:
    test = make_planted(150, seed=3)
    tasks = evaluation_episodes(
        test, np.arange(test.n_users), support_sizes=(10,), max_query=20, seed=0
    )
    figures, facts = {}, {}
    for weight in (0.0, 1.0):
        learner = Gaussian(CONFIG.model_copy(update={"list_weight": weight}))
        curves = learner.fit(data, make_planted(60, seed=2), CONTEXT).curves
        facts[weight] = set(curves)
        figures[weight] = evaluate(learner, tasks, device=CPU)
    assert facts[1.0] - facts[0.0] == {"list_nll"}
    assert figures[0.0]["mae"].mean() < figures[1.0]["mae"].mean() + 0.02
    popularity = Popularity(Popularity.Config())
    popularity.fit(data, data, CONTEXT)
    common = evaluate(popularity, tasks, device=CPU)["ndcg_at_10"].mean()
    assert figures[0.0]["ndcg_at_10"].mean() > common


def test_implicit_feedback_has_only_lists_to_learn_whatever_their_weight(make_planted) -> None:
    data = make_planted(60, seed=1)
    scale = replace(data.scale, feedback=Feedback.IMPLICIT, minimum=0.0, relevant_from=0.0)
    implicit = replace(data, scale=scale)
    weights = {"list_weight": 0.0}, {"list_weight": 1.0}
    one, other = (Gaussian(CONFIG.model_copy(update=weight)) for weight in weights)
    curves = [learner.fit(implicit, implicit, CONTEXT).curves for learner in (one, other)]
    assert curves[0] == curves[1]


def test_implicit_feedback_learns_lists_and_forecasts_nothing(make_planted) -> None:
    data = make_planted(200, seed=1)
    scale = replace(
        data.scale, feedback=Feedback.IMPLICIT, minimum=0.0, maximum=100.0, relevant_from=0.0
    )
    matrix = replace(data.interactions, values=np.ones_like(data.interactions.values))
    implicit = replace(data, scale=scale, interactions=matrix)
    learner = Gaussian(CONFIG)
    report = learner.fit(implicit, implicit, CONTEXT)
    assert "nll" not in report.curves
    assert report.curves["list_nll"][-1] < report.curves["list_nll"][0]
    predictor = learner.adapt(full_support(implicit, np.arange(5)))
    assert predictor.scores().isfinite().all()
    assert predictor.mean_var()[0].isnan().all()
    items = torch.arange(8).expand(5, -1)
    torch.testing.assert_close(predictor.shares(items).total(), predictor.scores(items))


def test_no_features_at_all_is_a_legal_dataset(make_planted) -> None:
    data = make_planted(80, seed=1, features=False)
    bare = replace(data, item_features=np.zeros((data.n_items, 0), dtype=np.float32))
    learner = Gaussian(CONFIG)
    learner.fit(bare, bare, CONTEXT)
    state = learner.state()
    again = Gaussian.from_state(CONFIG, state, CPU)
    support = full_support(bare, np.arange(5))
    assert torch.equal(learner.adapt(support).scores(), again.adapt(support).scores())


def test_fitting_leaves_the_global_generator_alone(data: TaskData) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    short = GaussianConfig(taste_dim=2, exposure_dim=2, hidden=4, loop=LoopConfig(epochs=1))
    Gaussian(short).fit(data, data, CONTEXT)
    assert torch.equal(before, torch.random.get_rng_state())
