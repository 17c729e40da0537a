"""The family of gradient steps: what each variant changes, and that steps help."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from torch.func import functional_call

from metarec_core.episodes.sampling import EpisodeSampler, evaluation_episodes, full_support
from metarec_core.episodes.types import Episode, Support, TaskData
from metarec_core.evaluation import evaluate
from metarec_core.learners.base import FitContext
from metarec_core.learners.item_net import ItemTable, NetSizes, start_from_baselines
from metarec_core.learners.maml import Maml, MamlConfig, meta_loss
from metarec_core.learners.maml_net import Fast, MamlNet, Variant, adapt_batch
from metarec_core.learners.popularity import Popularity
from metarec_core.schema import Columns, Feedback
from metarec_core.training.loop import LoopConfig

CPU = torch.device("cpu")
CONTEXT = FitContext(seed=1, device=CPU, max_support=16, max_query=16)
CONFIG = MamlConfig(
    item_dim=4, exposure_dim=6, hidden=8, loop=LoopConfig(epochs=15, batch_tasks=16)
)


@pytest.fixture(scope="module")
def data(make_planted) -> TaskData:
    return make_planted(300, seed=1)


@pytest.fixture(scope="module")
def net(data: TaskData) -> MamlNet:
    torch.manual_seed(0)
    sizes = NetSizes(data.n_items, 3, 2, taste=4, exposure=6, hidden=8)
    net = MamlNet(sizes, 10.0, rates={"layers": 0.1, "list": 2.0}, damping=5.0)
    start_from_baselines(net, data, CPU)
    # A head of zeros would hide what the layers below it do.
    torch.nn.init.normal_(net.layers.head.weight)
    return net.double()


@pytest.fixture(scope="module")
def table(net: MamlNet, data: TaskData) -> ItemTable:
    return net.items(torch.from_numpy(data.item_features).double())


@pytest.fixture(scope="module")
def episode(data: TaskData) -> Episode:
    sampler = EpisodeSampler(data, max_support=16, max_query=16, batch_size=12)
    drawn = next(sampler.epoch(np.random.default_rng(0)))
    return replace(drawn, support=wide(drawn.support), values=drawn.values.double())


def wide(support: Support) -> Support:
    return replace(
        support,
        values=support.values.double(),
        user_features=support.user_features.double(),
    )


def by_hand(net: MamlNet, table: ItemTable, support: Support, row: int, steps: int) -> Fast:
    """Steps of one user with autograd on the user's own interactions, without padding."""
    real = support.mask[row]
    items, values = support.items[row, real], support.values[row, real]
    features = support.user_features[row : row + 1]
    user = net.user(features)[0]
    residual = (values - net.mu) / net.unit - table.bias[items]
    pull = net.list_target[0] + net.list_target[1] * residual
    fast = dict(net.layers.named_parameters()) | {"list": net.list_start(features)[0]}
    for _ in range(steps):
        layers = {name: tensor for name, tensor in fast.items() if name != "list"}
        forecast = functional_call(net.layers, layers, (table.taste[items], user))
        log_p = torch.log_softmax(table.appeal + table.exposure @ fast["list"], dim=0)[items]
        loss = (0.5 * (residual - forecast).square() - pull * log_p).sum() / (len(items) + 5.0)
        slopes = torch.autograd.grad(loss, list(fast.values()), create_graph=True)
        fast = {
            name: tensor - (2.0 if name == "list" else 0.1) * slope
            for (name, tensor), slope in zip(fast.items(), slopes, strict=True)
        }
    return fast


def test_steps_of_a_padded_batch_are_those_of_each_user_alone(
    net: MamlNet, table: ItemTable, episode: Episode
) -> None:
    fast, _ = adapt_batch(net, table, episode.support, steps=3, variant=Variant.MAML, explicit=True)
    assert len(set(episode.support.sizes.tolist())) > 3
    for row in range(len(episode.users)):
        alone = by_hand(net, table, episode.support, row, steps=3)
        assert alone.keys() == fast.keys()
        for name, tensor in alone.items():
            torch.testing.assert_close(fast[name][row], tensor, atol=1e-12, rtol=1e-10)


def gradient(net: MamlNet, data: TaskData, episode: Episode, variant: Variant) -> Fast:
    net.zero_grad()
    table = net.items(torch.from_numpy(data.item_features).double())
    config = CONFIG.model_copy(update={"variant": variant})
    parts = meta_loss(net.train(), table, episode, config=config, explicit=True, relevant_from=4.0)
    sum(value / count for value, count in parts.values()).backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in net.named_parameters()
        if parameter.grad is not None
    }


def test_only_maml_and_anil_differentiate_through_the_steps(
    net: MamlNet, data: TaskData, episode: Episode
) -> None:
    """All variants that adapt everything forecast the same; the gradients tell them apart."""
    full = gradient(net, data, episode, Variant.MAML)
    first = gradient(net, data, episode, Variant.FOMAML)
    assert not torch.allclose(full["layers.first.weight"], first["layers.first.weight"])
    # What supports want of a list is learned through the steps alone.
    assert full.keys() - first.keys() == {"list_target"}
    assert first["log_rates.first_weight"].abs() > 0


def test_the_first_order_gradient_is_that_of_the_query_at_the_end_of_the_steps(
    net: MamlNet, data: TaskData, episode: Episode
) -> None:
    table = net.items(torch.from_numpy(data.item_features).double())
    fast, user = adapt_batch(
        net, table, episode.support, steps=3, variant=Variant.FOMAML, explicit=True
    )
    ends = {name: tensor.detach().requires_grad_() for name, tensor in fast.items()}
    standard = table.bias[episode.items] + net.forecast(ends, table.taste[episode.items], user)
    error = episode.values - net.mu - net.unit * standard
    extra = net.extra_variance(episode.support.sizes)[:, None]
    variance = net.unit.square() * (table.noise[episode.items] + extra)
    nll = 0.5 * ((error.square() / variance + variance.log()) * episode.mask).sum()
    absolute = (error.abs() * episode.mask).sum()
    slope = torch.autograd.grad((nll + absolute) / episode.mask.sum(), ends["first.weight"])[0]
    torch.testing.assert_close(
        gradient(net, data, episode, Variant.FOMAML)["layers.first.weight"], slope.sum(dim=0)
    )


def test_anil_leaves_the_layers_below_the_head_alone(
    net: MamlNet, table: ItemTable, episode: Episode
) -> None:
    fast, _ = adapt_batch(net, table, episode.support, steps=3, variant=Variant.ANIL, explicit=True)
    start = net.start(episode.support.user_features)
    moved = {name for name, tensor in fast.items() if not torch.equal(tensor, start[name])}
    assert moved == {"head.weight", "head.bias", "list"}


def test_reptile_draws_the_start_towards_the_end_of_steps_on_everything_known(
    net: MamlNet, data: TaskData, episode: Episode
) -> None:
    table = net.items(torch.from_numpy(data.item_features).double())
    support = episode.support
    both = replace(
        support,
        items=torch.cat([support.items, episode.items], dim=1),
        values=torch.cat([support.values, episode.values], dim=1),
        mask=torch.cat([support.mask, episode.mask], dim=1),
    )
    ends, _ = adapt_batch(net, table, both, steps=3, variant=Variant.REPTILE, explicit=True)
    wanted = (net.layers.first.weight - ends["first.weight"]).mean(dim=0) / 0.1
    given = gradient(net, data, episode, Variant.REPTILE)
    torch.testing.assert_close(given["layers.first.weight"], wanted.detach())
    assert "log_rates.first_weight" not in given
    assert given["ids"].abs().sum() > 0


@pytest.mark.parametrize("variant", list(Variant))
def test_every_variant_learns_ratings_and_beats_popularity_on_planted_structure(
    variant: Variant, data: TaskData, make_planted
) -> None:
    test = make_planted(150, seed=3)
    learner = Maml(CONFIG.model_copy(update={"variant": variant}))
    learner.fit(data, make_planted(60, seed=2), CONTEXT)
    popularity = Popularity(Popularity.Config())
    popularity.fit(data, data, CONTEXT)
    tasks = evaluation_episodes(
        test, np.arange(test.n_users), support_sizes=(0, 10), max_query=20, seed=0
    )
    ours, theirs = (evaluate(one, test, tasks, device=CPU) for one in (learner, popularity))
    known = pl.col(Columns.SUPPORT_SIZE) == 10
    ranked = [frame.filter(known)["ndcg_at_10"].mean() for frame in (ours, theirs)]
    assert ranked[0] > ranked[1]
    # The same users and queries: what the support tells is all the difference.
    alike = ours.filter(pl.col("user").is_in(ours.filter(known)["user"].implode()))
    errors = dict(alike.group_by(Columns.SUPPORT_SIZE).agg(pl.col("mae").mean()).iter_rows())
    assert errors[10] < errors[0]


def test_the_variance_falls_with_the_support_and_covers(data: TaskData, make_planted) -> None:
    test = make_planted(150, seed=3)
    learner = Maml(CONFIG)
    learner.fit(data, make_planted(60, seed=2), CONTEXT)
    items = torch.arange(test.n_items).expand(test.n_users, -1)
    support = full_support(test, np.arange(test.n_users))
    nothing = replace(support, mask=torch.zeros_like(support.mask))
    known, unknown = (learner.adapt(one).mean_var(items)[1] for one in (support, nothing))
    assert (known < unknown).all()
    tasks = evaluation_episodes(
        test, np.arange(test.n_users), support_sizes=(0, 5), max_query=20, seed=0
    )
    inside = []
    for batch in tasks.batches(1000):
        part = batch.episode
        mean, variance = learner.adapt(part.support).mean_var(part.items)
        near = (part.values - mean).abs() < 1.6449 * variance.sqrt()
        inside.append(near[part.mask])
    assert 0.85 < torch.cat(inside).double().mean() < 0.95


def test_implicit_feedback_learns_lists_and_forecasts_nothing(make_planted) -> None:
    data = make_planted(100, seed=1)
    scale = replace(
        data.scale, feedback=Feedback.IMPLICIT, minimum=0.0, maximum=100.0, relevant_from=0.0
    )
    implicit = replace(data, scale=scale)
    learner = Maml(CONFIG)
    report = learner.fit(implicit, implicit, CONTEXT)
    assert set(report.curves) == {"train_loss", "loss", "list_nll"}
    assert report.curves["list_nll"][-1] < report.curves["list_nll"][0]
    predictor = learner.adapt(full_support(implicit, np.arange(5)))
    assert predictor.scores().isfinite().all()
    assert predictor.mean_var()[0].isnan().all()
