"""What is shared between datasets, what is copied, and that it helps where users are few."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from metarec_core.episodes.sampling import evaluation_episodes
from metarec_core.episodes.types import InteractionMatrix, TaskData
from metarec_core.errors import ModelError
from metarec_core.evaluation import evaluate
from metarec_core.learners.amortised import Amortised, AmortisedConfig
from metarec_core.learners.amortised_net import AmortisedNet, NetSizes
from metarec_core.learners.amortised_start import begin
from metarec_core.learners.amortised_training import content_scale, describe
from metarec_core.learners.base import FitContext
from metarec_core.learners.bias import Bias
from metarec_core.learners.content import Content
from metarec_core.learners.transfer import Knowledge, Names, Start, WarmStartable, match

CPU = torch.device("cpu")
CONTEXT = FitContext(seed=1, device=CPU)
CONFIG = AmortisedConfig.model_validate(
    {
        "dim": 16,
        "hidden": 16,
        "loop": {
            "epochs": 15,
            "patience": 15,
            "batch_tasks": 32,
            "learning_rate": 0.01,
            "weight_decay": 0.1,
            "schedule": "one_cycle",
        },
    }
)
N_ITEMS = 60
SHIFT = 20
SOURCE = Names(
    ("kind=a", "kind=b", "plot:svd0"), ("age", "club=x"), tuple(f"Film {i}" for i in range(N_ITEMS))
)
TARGET = Names(
    ("plot:svd0", "kind=b", "kind=a"),
    ("club=x", "height"),
    tuple(f"film  {(i + SHIFT) % 80}!" for i in range(N_ITEMS)),
)


def moved(data: TaskData) -> TaskData:
    """The same tastes about a catalogue in another order, features in other columns and units.

    Catalogue item ``i`` is the source's ``i + 20``; those from 40 on are unknown to it.
    """
    matrix = data.interactions
    items = (matrix.items - SHIFT) % N_ITEMS
    rows = np.repeat(np.arange(data.n_users), matrix.counts())
    order = np.lexsort((items, rows))
    features = np.roll(data.item_features, -SHIFT, axis=0)[:, ::-1] * np.float32([1.0, 3.0, 0.5])
    return replace(
        data,
        interactions=InteractionMatrix(matrix.indptr, items[order], matrix.values[order]),
        item_features=np.ascontiguousarray(features),
        user_features=np.ascontiguousarray(data.user_features[:, ::-1]),
    )


@pytest.fixture(scope="module")
def taught(make_planted: Callable[..., TaskData]) -> Knowledge:
    data = make_planted(600, seed=1)
    learner = Amortised(CONFIG)
    learner.fit(data, make_planted(60, seed=2), CONTEXT)
    return Knowledge(learner, data, SOURCE)


@pytest.fixture(scope="module")
def few(make_planted: Callable[..., TaskData]) -> TaskData:
    return moved(make_planted(20, seed=5))


def fitted(start: Start | None, train: TaskData, share: float = 1.0) -> Amortised:
    rate = CONFIG.loop.learning_rate * share
    learner = Amortised(CONFIG.changed({"loop": {"learning_rate": rate}}))
    learner.start_from(start)
    learner.fit(train, train, CONTEXT)
    return learner


def ndcg(learner: Amortised, data: TaskData) -> float:
    tasks = evaluation_episodes(
        data, np.arange(data.n_users), support_sizes=(2, 8), max_query=20, seed=0
    )
    return float(evaluate(learner, tasks, device=CPU)["ndcg_at_10"].mean())


def new_net(data: TaskData, dim: int = 16) -> AmortisedNet:
    torch.manual_seed(3)
    net = AmortisedNet(
        NetSizes(
            n_items=data.n_items,
            id_items=data.n_items,
            item_features=data.item_features.shape[1],
            user_features=data.user_features.shape[1],
            dim=dim,
            hidden=16,
            layers=2,
        )
    )
    describe(net, data)
    return net


def source_net(taught: Knowledge) -> AmortisedNet:
    net = taught.learner.net  # type: ignore[attr-defined]
    assert isinstance(net, AmortisedNet)
    return net


def test_columns_pair_by_name_and_value_and_items_by_title(taught: Knowledge) -> None:
    start = match(taught, TARGET, match_items=True)
    assert start.item_columns.target.tolist() == [1, 2]
    assert start.item_columns.source.tolist() == [1, 0]
    assert (start.user_columns.target.tolist(), start.user_columns.source.tolist()) == ([0], [1])
    assert start.items.target.tolist() == list(range(40))
    assert start.items.source.tolist() == list(range(SHIFT, N_ITEMS))
    assert len(match(taught, TARGET, match_items=False).items) == 0


def test_a_title_that_two_items_share_names_neither(taught: Knowledge) -> None:
    titles = ("Film 3", "FILM 3", None, "Film 4")
    start = match(taught, replace(TARGET, titles=titles), match_items=True)
    assert (start.items.target.tolist(), start.items.source.tolist()) == ([3], [4])


def test_what_is_shared_is_copied_and_nothing_else(taught: Knowledge, few: TaskData) -> None:
    source, fresh, net = source_net(taught), new_net(few), new_net(few)
    start = match(taught, TARGET, match_items=True, popularity_users=10.0)
    begin(net, source, start, few)
    for name in ("mirror", "size.weight", "inner.0.weight", "outer.1.bias", "popularity"):
        assert torch.equal(net.state_dict()[name], source.state_dict()[name]), name
    for name in ("content_keys", "content_values", "content_appeal"):
        own, known = net.state_dict()[name], source.state_dict()[name]
        # What a cell of the raw feature does to the network is the same in both datasets.
        effect = own[..., [1, 2]] * content_scale(few)[[1, 2]]
        torch.testing.assert_close(effect, known[..., [1, 0]] * content_scale(taught.data)[[1, 0]])
        assert torch.equal(own[..., 0], fresh.state_dict()[name][..., 0])
    assert torch.equal(net.user[:, 0], source.user[:, 1])
    assert not net.user[:, 1].any()
    for name in ("id_keys", "id_values", "id_appeal"):
        own = net.state_dict()[name]
        assert torch.equal(own[:40], source.state_dict()[name][SHIFT:])
        assert not own[40:].any()
    assert net.met.all()
    likes = np.bincount(
        taught.data.interactions.items[taught.data.interactions.values >= 4], minlength=N_ITEMS
    )
    known = torch.from_numpy(likes[SHIFT:]).double()
    together = np.corrcoef(net.log_share[:40], known.log1p())[0, 1]
    assert together > np.corrcoef(fresh.log_share[:40], known.log1p())[0, 1]


def test_without_matched_items_ids_and_popularity_are_the_target_s(
    taught: Knowledge, few: TaskData
) -> None:
    net = new_net(few)
    begin(net, source_net(taught), match(taught, TARGET, match_items=False), few)
    matrix = few.interactions
    likes = np.bincount(matrix.items[matrix.values >= 4], minlength=N_ITEMS)
    order = torch.from_numpy(likes)
    assert (net.log_share[order == 0] == net.log_share.min()).all()
    torch.testing.assert_close(
        net.log_share.double(), (order + 0.5).log().double() - (order + 0.5).log().double().mean()
    )
    for name in ("id_keys", "id_values", "id_appeal"):
        assert not net.state_dict()[name].any()


def test_an_item_that_few_users_have_not_met_is_not_new(taught: Knowledge, few: TaskData) -> None:
    """That none of them liked it is known: it stands below what some of them liked."""
    unmet = np.setdiff1d(np.arange(N_ITEMS), few.interactions.items)
    hidden = few.interactions.items < 10
    rows = np.repeat(np.arange(few.n_users), few.interactions.counts())[~hidden]
    counts = np.bincount(rows, minlength=few.n_users)
    matrix = InteractionMatrix(
        np.concatenate([[0], np.cumsum(counts)]),
        few.interactions.items[~hidden],
        few.interactions.values[~hidden],
    )
    net, data = new_net(few), replace(few, interactions=matrix)
    describe(net, data)
    assert not net.met[:10].any()
    assert not net.met[unmet].any()
    begin(net, source_net(taught), match(taught, TARGET, match_items=False), data)
    assert net.met.all()
    assert (net.log_share[:10] == net.log_share.min()).all()
    assert net.log_share.max() > net.log_share.min() + 1.0


@pytest.mark.parametrize("match_items", [True, False])
def test_with_few_users_a_started_learner_beats_one_from_scratch(
    taught: Knowledge, few: TaskData, make_planted: Callable[..., TaskData], match_items: bool
) -> None:
    test = moved(make_planted(200, seed=3))
    titles = tuple(f"Film {(item + SHIFT) % N_ITEMS}" for item in range(N_ITEMS))
    names = Names(("c=2", "c=1", "c=0"), ("club=x", "age"), titles)
    known = replace(taught, names=replace(SOURCE, item_columns=("c=0", "c=1", "c=2")))
    start = match(known, names, match_items=match_items)
    started = ndcg(fitted(start, few, 0.3), test)
    assert started > ndcg(fitted(None, few), test) + 0.02


def test_the_same_start_ends_with_the_same_bits(taught: Knowledge, few: TaskData) -> None:
    start = match(taught, TARGET, match_items=True)
    one, other = fitted(start, few).state(), fitted(start, few).state()
    assert all(torch.equal(one[name], other[name]) for name in one)
    again = Amortised.from_state(CONFIG, one, CPU).state()
    assert all(torch.equal(one[name], again[name]) for name in one)


def test_a_start_serves_one_fit(taught: Knowledge, few: TaskData) -> None:
    learner = fitted(match(taught, TARGET, match_items=True), few)
    learner.fit(few, few, CONTEXT)
    scratch = fitted(None, few).state()
    assert all(torch.equal(scratch[name], learner.state()[name]) for name in scratch)


def test_nothing_shared_is_an_error_that_says_what_to_do(taught: Knowledge) -> None:
    stranger = Names(("genres=Comedy", "plot:svd0"), (), ("Other film", None))
    with pytest.raises(ModelError, match=r"no feature value and no title.*name the features alike"):
        match(taught, stranger, match_items=True)
    with pytest.raises(ModelError):
        match(taught, replace(stranger, titles=TARGET.titles), match_items=False)


def test_a_source_of_another_kind_or_shape_is_refused(taught: Knowledge, few: TaskData) -> None:
    start = match(taught, TARGET, match_items=True)
    with pytest.raises(ModelError, match="a source of learner amortised"):
        Content(Content.Config()).start_from(start)
    with pytest.raises(ModelError, match="same dim, hidden and layers"):
        begin(new_net(few, dim=8), source_net(taught), start, few)


def test_content_alone_can_be_started(taught: Knowledge, few: TaskData) -> None:
    config = Content.Config.model_validate(
        {"dim": 16, "hidden": 16, "loop": {"epochs": 1, "learning_rate": 1e-9}}
    )
    source = Content(config)
    source.fit(taught.data, taught.data, CONTEXT)
    learner = Content(config)
    learner.start_from(match(replace(taught, learner=source), TARGET, match_items=True))
    learner.fit(few, few, CONTEXT)
    own, known = learner.state(), source.state()
    torch.testing.assert_close(own["net.mirror"], known["net.mirror"])
    effect = own["net.content_values"][:, 1] * content_scale(few)[1]
    torch.testing.assert_close(
        effect, known["net.content_values"][:, 1] * content_scale(taught.data)[1]
    )


def test_from_scratch_with_known_items_differs_in_what_is_new_alone(few: TaskData) -> None:
    net, plain = new_net(few), new_net(few)
    begin(net, None, Start.from_scratch(), few)
    assert net.met.all()
    own, drawn = dict(net.named_parameters()), dict(plain.named_parameters())
    assert all(torch.equal(own[name], drawn[name]) for name in own)


def test_learners_say_whether_they_can_be_started() -> None:
    assert isinstance(Amortised(CONFIG), WarmStartable)
    assert not isinstance(Bias(Bias.Config()), WarmStartable)
