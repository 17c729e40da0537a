"""The reader of supports: modes, new items, implicit feedback, its variance, and resume."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from metarec_core.episodes.sampling import evaluation_episodes, full_support
from metarec_core.episodes.types import Episode, Support, TaskData
from metarec_core.evaluation import evaluate
from metarec_core.learners.amortised import Amortised, AmortisedConfig
from metarec_core.learners.amortised_net import AmortisedNet, NetSizes
from metarec_core.learners.amortised_training import Arrivals, DropRates, Objective, Top, describe
from metarec_core.learners.base import FitContext, GaussianPredictor
from metarec_core.learners.content import Content
from metarec_core.learners.fading import Fading
from metarec_core.learners.modes import Mode
from metarec_core.learners.popularity import Popularity
from metarec_core.schema import Feedback

CPU = torch.device("cpu")
DAY = 86_400
CONTEXT = FitContext(seed=1, device=CPU)
SMALL = {
    "dim": 24,
    "hidden": 24,
    "mode_dropout": 0.6,
    "loop": {"epochs": 25, "patience": 25, "batch_tasks": 32},
}
SMALL["loop"] |= {"learning_rate": 0.01, "weight_decay": 0.1, "schedule": "one_cycle"}
CONFIG = AmortisedConfig.model_validate(SMALL)
SHORT = AmortisedConfig.model_validate(SMALL | {"loop": {"epochs": 4, "batch_tasks": 16}})


@pytest.fixture(scope="module")
def data(make_planted: Callable[..., TaskData]) -> TaskData:
    return make_planted(600, seed=1)


@pytest.fixture(scope="module")
def test(make_planted: Callable[..., TaskData]) -> TaskData:
    return make_planted(200, seed=3)


@pytest.fixture(scope="module")
def fitted(data: TaskData, make_planted: Callable[..., TaskData]) -> Amortised:
    learner = Amortised(CONFIG)
    learner.fit(data, make_planted(60, seed=2), CONTEXT)
    return learner


def without_items(data: TaskData, items: list[int]) -> TaskData:
    matrix = data.interactions
    kept = ~np.isin(matrix.items, items)
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


def ndcg(learner, data: TaskData, size: int) -> float:
    tasks = evaluation_episodes(
        data, np.arange(data.n_users), support_sizes=(size,), max_query=20, seed=0
    )
    return float(evaluate(learner, tasks, device=CPU)["ndcg_at_10"].mean())


class OfAnother:
    """Reads the support of the next user of the batch."""

    name = "of another"

    def __init__(self, learner: Amortised) -> None:
        self.learner = learner

    def adapt(self, support: Support):
        fields = (support.items, support.values, support.mask)
        others = Support(*(field.roll(1, dims=0) for field in fields), support.user_features)
        return self.learner.adapt(others)


def test_with_a_support_it_beats_popularity(
    fitted: Amortised, data: TaskData, test: TaskData
) -> None:
    popularity = Popularity(Popularity.Config())
    popularity.fit(data, data, CONTEXT)
    assert ndcg(fitted, test, 8) > ndcg(popularity, test, 8) + 0.03


@pytest.mark.parametrize("mode", ["personalised", "collaborative", "content"])
def test_in_every_mode_it_is_a_user_s_own_support_that_helps(
    fitted: Amortised, test: TaskData, mode: str
) -> None:
    learner = fitted.in_mode(mode)
    assert ndcg(learner, test, 8) > ndcg(OfAnother(learner), test, 8) + 0.01


def test_modes_leave_out_what_they_say(fitted: Amortised, test: TaskData) -> None:
    support = full_support(test, np.arange(30))
    stranger = replace(support, user_features=support.user_features + 3.0)
    scores = {
        mode: fitted.in_mode(mode).adapt(support).scores()
        for mode in ("personalised", "collaborative", "content")
    }
    assert not torch.allclose(scores["personalised"], scores["collaborative"])
    assert not torch.allclose(scores["personalised"], scores["content"])
    assert not torch.allclose(scores["collaborative"], scores["content"])
    torch.testing.assert_close(
        fitted.in_mode("collaborative").adapt(stranger).scores(), scores["collaborative"]
    )
    assert not torch.allclose(fitted.adapt(stranger).scores(), scores["personalised"])


def test_content_mode_knows_twins_only_by_their_content(data: TaskData) -> None:
    features = data.item_features.copy()
    features[7] = features[2]
    twins = replace(data, item_features=features)
    learner = Amortised(SHORT)
    learner.fit(twins, twins, CONTEXT)
    one = Support(
        torch.tensor([[2, 5]]),
        torch.tensor([[5.0, 4.0]]),
        torch.ones(1, 2, dtype=torch.bool),
        torch.from_numpy(data.user_features[:1]),
    )
    other = replace(one, items=torch.tensor([[7, 5]]))
    content = learner.in_mode("content")
    assert torch.equal(content.adapt(one).scores(), content.adapt(other).scores())
    assert not torch.allclose(learner.adapt(one).scores(), learner.adapt(other).scores())
    scores = content.adapt(one).scores()
    assert float(scores[0, 2]) == pytest.approx(float(scores[0, 7]))


def test_trained_on_interactions_alone_it_holds_no_features(data: TaskData) -> None:
    config = AmortisedConfig.model_validate(SMALL | {"mode": "collaborative"})
    learner = Amortised(config.model_copy(update={"loop": SHORT.loop}))
    learner.fit(data, data, CONTEXT)
    state = learner.state()
    assert state["net.features"].shape == (data.n_items, 0)
    other = replace(data, item_features=-data.item_features, user_features=-data.user_features)
    again = Amortised(learner.config)
    again.fit(other, other, CONTEXT)
    assert all(torch.equal(state[name], again.state()[name]) for name in state)


@pytest.mark.parametrize("kind", [Amortised, Content])
def test_items_that_nobody_met_are_ranked_by_content(
    kind: type[Amortised], data: TaskData, test: TaskData
) -> None:
    """Of items without a training interaction, those that a user will like stand higher."""
    new = list(range(0, 60, 4))
    learner = kind(kind.Config.model_validate(SMALL))
    cold = without_items(data, new)
    learner.fit(cold, cold, CONTEXT)
    support = full_support(without_items(test, new), np.arange(test.n_users))
    scores = learner.adapt(support).scores()
    matrix = test.interactions
    rows = np.repeat(np.arange(test.n_users), matrix.counts())
    met = np.isin(matrix.items, new)
    liked = matrix.values >= 4
    at = scores[rows, matrix.items].numpy()
    centred = at - scores[:, new].mean(dim=1).numpy()[rows]
    assert centred[met & liked].mean() > centred[met & ~liked].mean() + 0.1
    # Their popularity is unknown, not zero: they are among the others.
    known = np.setdiff1d(np.arange(60), new)
    assert scores[:, new].mean() > scores[:, known].amin(dim=1).mean()


def test_the_preference_is_gaussian_and_its_part_is_beyond_shares(
    fitted: Amortised, test: TaskData
) -> None:
    predictor = fitted.adapt(full_support(test, np.arange(6)))
    assert isinstance(predictor, GaussianPredictor)
    table = fitted._table
    assert table is not None
    shares = predictor.shares(torch.arange(5).expand(6, -1))
    torch.testing.assert_close(shares.item, table.appeal[:5].expand(6, -1))
    torch.testing.assert_close(shares.beyond, predictor.mean @ table.values[:5].mT)
    assert not shares.support.any()
    torch.testing.assert_close(predictor.scores(), predictor.mean @ table.values.mT + table.appeal)
    items = torch.arange(5).expand(6, -1)
    vectors = table.values[items]
    torch.testing.assert_close(
        predictor.score_variance(items),
        torch.einsum("bkd,bde,bke->bk", vectors, predictor.covariance, vectors),
    )
    torch.testing.assert_close(predictor.score_variance()[:, :5], predictor.score_variance(items))
    assert predictor.mean_var()[0].isnan().all()


@pytest.mark.parametrize("mode", ["personalised", "content"])
def test_feature_shares_are_what_columns_of_content_add(
    fitted: Amortised, test: TaskData, mode: Mode
) -> None:
    """Doubling a column of an item adds its share to the score, whoever asks."""
    learner = fitted.in_mode(mode)
    support = full_support(test, np.arange(6))
    items = torch.arange(test.n_items).expand(6, -1)
    shares, scores = (learner.adapt(support).feature_shares(items), learner.adapt(support).scores())
    assert isinstance(learner._wide, AmortisedNet)
    for item in range(0, test.n_items, 7):
        others = (support.items != item).all(dim=1)
        for column in range(test.item_features.shape[1]):
            changed = copy.copy(learner)
            changed._wide = copy.deepcopy(learner._wide)
            changed._wide.features[item, column] *= 2.0
            changed._read_items()
            more = changed.adapt(support).scores() - scores
            torch.testing.assert_close(more[others, item], shares[others, item, column])


def test_the_variance_says_how_far_the_mean_will_move(fitted: Amortised, test: TaskData) -> None:
    """Against new users: squared moves of scores, once all is read, are what it forecasts."""
    users = np.flatnonzero(test.interactions.counts() >= 8)
    spreads = []
    for size in (0, 2, 6):
        tasks = evaluation_episodes(test, users, support_sizes=(size,), max_query=2, seed=0)
        batch = next(tasks.batches(1000))
        settled = fitted.adapt(full_support(test, batch.users)).scores()
        predictor = fitted.adapt(batch.episode.support)
        moved = (settled - predictor.scores()).square()
        assert 0.6 < float((moved / predictor.score_variance()).mean()) < 1.7
        spreads.append(float(predictor.score_variance().mean()))
    assert spreads[0] > spreads[1] > spreads[2]


def test_dislikes_are_not_read_as_likes(fitted: Amortised, test: TaskData) -> None:
    support = full_support(test, np.arange(20))
    liked = fitted.adapt(replace(support, values=torch.full_like(support.values, 5.0))).scores()
    disliked = fitted.adapt(replace(support, values=torch.ones_like(support.values))).scores()
    assert not torch.allclose(liked, disliked, atol=0.1)


def test_implicit_events_weigh_by_the_logarithm(data: TaskData) -> None:
    scale = replace(
        data.scale, feedback=Feedback.IMPLICIT, minimum=0.0, maximum=1e6, relevant_from=0.0
    )
    implicit = replace(data, scale=scale)
    learner = Amortised(SHORT)
    report = learner.fit(implicit, implicit, CONTEXT)
    assert report.curves["loss"][-1] < report.curves["loss"][0]
    support = full_support(implicit, np.arange(5))
    once = learner.adapt(replace(support, values=torch.ones_like(support.values))).scores()
    often = learner.adapt(replace(support, values=torch.full_like(support.values, 1e5))).scores()
    assert often.isfinite().all()
    assert not torch.allclose(once, often)


class KilledError(Exception):
    pass


def test_a_killed_run_ends_with_the_bits_of_an_uninterrupted_one(
    data: TaskData, tmp_path: Path
) -> None:
    whole = Amortised(SHORT)
    whole.fit(data, data, CONTEXT)

    def kill(step: int, steps: int, metrics) -> None:
        if step == 2:
            raise KilledError

    with pytest.raises(KilledError):
        Amortised(SHORT).fit(data, data, replace(CONTEXT, work=tmp_path, progress=kill))
    epochs: list[int] = []
    again = Amortised(SHORT)
    context = replace(CONTEXT, work=tmp_path, progress=lambda step, *_: epochs.append(step))
    again.fit(data, data, context)
    assert epochs == [3, 4]
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, again.state()[name]), name


def test_fitting_leaves_the_global_generator_alone(data: TaskData) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    Amortised(SHORT).fit(data, data, CONTEXT)
    assert torch.equal(before, torch.random.get_rng_state())


def dated(data: TaskData, *, by_time: bool) -> TaskData:
    """Choices of even items made on the first day, those of odd ones 300 days later."""
    matrix = data.interactions
    times = (matrix.items % 2) * 300 * DAY
    return replace(data, interactions=replace(matrix, times=times), by_time=by_time)


def lead_of_odd_items(learner: Amortised) -> float:
    log_share = learner.net.get_buffer("log_share")
    return float(log_share[1::2].mean() - log_share[::2].mean())


def test_where_the_future_is_forecast_the_popularity_of_the_past_fades(
    data: TaskData, make_planted: Callable[..., TaskData]
) -> None:
    leads = {}
    for by_time in (False, True):
        learner = Amortised(SHORT)
        validation = dated(make_planted(60, seed=2), by_time=by_time)
        learner.fit(dated(data, by_time=by_time), validation, CONTEXT)
        leads[by_time] = lead_of_odd_items(learner)
    assert abs(leads[False]) < 1.0
    assert leads[True] > leads[False] + 1.0


def test_popularity_is_that_of_when_a_user_came(fashions: TaskData) -> None:
    by_time = replace(fashions, by_time=True)
    fading = Fading.learn(by_time)
    arrivals = Arrivals.of(by_time, fading, torch.device("cpu"))
    times = by_time.interactions.times
    assert times is not None
    # One interaction a user: the first twentieth day, and the last one.
    early, late = int(np.flatnonzero(times == 30 * DAY)[0]), int(times.argmax())
    assert (
        int(arrivals.moments[early]) < int(arrivals.moments[late]) == len(arrivals.log_shares) - 1
    )
    shares = arrivals.log_shares[arrivals.moments]
    # Items of later seasons were unknown then: as unpopular as any that nobody chose.
    assert float(shares[early, 3:11].std()) < 1e-6 < float(shares[late, 3:11].std())
    for row in arrivals.log_shares:
        assert float(row[:11].mean()) == pytest.approx(0.0, abs=1e-5)


def test_a_training_user_is_forecast_by_the_popularity_of_that_time(fashions: TaskData) -> None:
    by_time = replace(fashions, by_time=True)
    fading = Fading.learn(by_time)
    arrivals = Arrivals.of(by_time, fading, CPU)
    net = AmortisedNet(NetSizes(by_time.n_items, by_time.n_items, 0, 0, 4, 4, 0))
    describe(net, by_time, fading)
    torch.nn.init.zeros_(net.id_values)  # Popularity alone orders the list.
    matrix = by_time.interactions
    items = torch.from_numpy(matrix.items)[:, None]
    nothing = torch.zeros(by_time.n_users, 0)
    episode = Episode(
        torch.arange(by_time.n_users),
        Support(nothing.long(), nothing, nothing.bool(), nothing),
        items,
        torch.from_numpy(matrix.values)[:, None],
        torch.ones_like(items, dtype=torch.bool),
    )
    rates = DropRates(units=0.0, ids=0.0, features=0.0, modes=0.0, not_relevant=0.0)

    def loss(then: Arrivals | None) -> float:
        objective = Objective(net, rates, Top(10, 1.0), by_time, CONTEXT, then)
        return float(objective.loss(net, episode, torch.Generator().manual_seed(1)).detach())

    def expected(log_shares: torch.Tensor) -> float:
        log_p = torch.log_softmax(log_shares.masked_fill(net.met == 0, -torch.inf), dim=1)
        return -float(log_p.gather(1, items).mean())

    now = net.log_share.expand(by_time.n_users, -1)
    then = arrivals.log_shares[arrivals.moments]
    assert abs(expected(then) - expected(now)) > 0.05
    difference = expected(then) - expected(now)
    assert loss(arrivals) - loss(None) == pytest.approx(difference, abs=1e-4)
