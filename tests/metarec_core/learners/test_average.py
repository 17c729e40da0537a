import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from metarec_core.episodes.sampling import full_support
from metarec_core.episodes.types import TaskData, ValueScale
from metarec_core.errors import ModelError
from metarec_core.learners.average import Average, AverageConfig
from metarec_core.learners.average_held_out import HeldOut
from metarec_core.learners.average_weights import ListTasks
from metarec_core.learners.base import FitContext, Learner
from metarec_core.learners.bias import Bias, BiasConfig
from metarec_core.learners.gaussian import GaussianConfig
from metarec_core.learners.item_knn import ItemKnnConfig
from metarec_core.learners.modes import in_mode
from metarec_core.schema import Feedback
from metarec_core.section import Section
from metarec_core.training.loop import LoopConfig

CHEAP = ("popularity", "bias", "item_knn", "ease")


def fitted(
    train: TaskData,
    validation: TaskData,
    members: tuple[str, ...] = CHEAP,
    settings: Mapping[str, Section] | None = None,
    already: Mapping[str, Learner] | None = None,
) -> Average:
    learner = Average(AverageConfig(members=members))
    context = FitContext(
        seed=3,
        device=torch.device("cpu"),
        max_support=16,
        max_query=16,
        settings=settings or {},
        fitted=already or {},
    )
    learner.fit(train, validation, context)
    return learner


def test_one_member_ranks_as_it_does_alone(
    train_data: TaskData, validation_data: TaskData, test_data: TaskData, fit
) -> None:
    alone = fit("item_knn", train_data, validation_data)
    average = fitted(train_data, validation_data, ("item_knn",))
    support = full_support(test_data, np.arange(test_data.n_users))

    order = average.adapt(support).scores().argsort(dim=1, stable=True)
    expected = alone.adapt(support).scores().double().argsort(dim=1, stable=True)

    assert torch.equal(order, expected)


def test_learners_that_are_fitted_are_not_fitted_again(
    train_data: TaskData, validation_data: TaskData, fit
) -> None:
    bias = fit("bias", train_data, validation_data)
    average = fitted(train_data, validation_data, CHEAP, already={"bias": bias})
    assert [member.name for member in average.members] == list(CHEAP)
    assert average.members[1].learner is bias


def test_members_have_the_settings_of_their_sections(
    train_data: TaskData, validation_data: TaskData
) -> None:
    settings = {"bias": BiasConfig(sweeps=1)}
    average = fitted(train_data, validation_data, ("bias",), settings)
    assert isinstance(average.members[0].learner, Bias)
    assert average.members[0].learner.config.sweeps == 1

    again = Average.from_state(average.config, average.state(), torch.device("cpu"))

    assert again.members[0].learner.config == settings["bias"]


def test_a_member_that_the_catalogue_is_too_large_for_drops_out(
    train_data: TaskData, validation_data: TaskData, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"item_knn": ItemKnnConfig(max_items=train_data.n_items - 1)}
    with caplog.at_level(logging.WARNING):
        average = fitted(train_data, validation_data, (*CHEAP, "item_knn"), settings)

    assert [member.name for member in average.members] == ["popularity", "bias", "ease"]
    said = [message for message in caplog.messages if "drops out of the average" in message]
    assert len(said) == 1
    assert said[0].startswith("item_knn")


def test_a_name_that_comes_again_is_another_copy(
    train_data: TaskData, validation_data: TaskData
) -> None:
    from metarec_core.learners.amortised import Amortised, AmortisedConfig

    small = AmortisedConfig.model_validate(
        {"dim": 4, "hidden": 4, "loop": {"epochs": 1, "batch_tasks": 32}}
    )
    average = fitted(train_data, validation_data, ("amortised", "amortised"), {"amortised": small})
    first, second = (member.learner for member in average.members)
    assert isinstance(first, Amortised)
    assert any(
        not torch.equal(tensor, second.state()[name]) for name, tensor in first.state().items()
    )


def test_what_is_not_linear_is_a_share_of_its_own(
    train_data: TaskData, validation_data: TaskData, test_data: TaskData, fit
) -> None:
    support = full_support(test_data, np.arange(test_data.n_users))
    items = torch.arange(7).repeat(test_data.n_users, 1)

    linear = fitted(train_data, validation_data).adapt(support).shares(items)
    mixed = fit("average", train_data, validation_data).adapt(support)
    shares = mixed.shares(items)

    assert linear.beyond is None
    assert shares.beyond is not None
    assert shares.beyond.abs().max() > 0.0
    assert torch.allclose(shares.total(), mixed.scores(items), atol=1e-9)


def test_on_an_item_that_nobody_met_only_those_speak_who_read_features(
    train_data: TaskData, validation_data: TaskData
) -> None:
    new = train_data.n_items
    one_more = {"item_features": np.vstack([train_data.item_features, train_data.item_features[0]])}
    train, validation = replace(train_data, **one_more), replace(validation_data, **one_more)
    brief = GaussianConfig(loop=LoopConfig(epochs=1))
    average = fitted(train, validation, ("blr", "gaussian"), {"gaussian": brief})
    copy = Average.from_state(average.config, average.state(), torch.device("cpu"))
    support = full_support(validation, np.arange(3))
    items = torch.tensor([[0, new]]).expand(3, 2)
    for learner in (average, copy):
        mean, variance = learner.adapt(support).mean_var(items)
        alone, _ = learner.members[1].learner.adapt(support).mean_var(items)
        torch.testing.assert_close(mean[:, 1], alone[:, 1].double())
        assert not torch.allclose(mean[:, 0], alone[:, 0].double(), atol=1e-4)
        everywhere, _ = learner.adapt(support).mean_var()
        torch.testing.assert_close(everywhere[:, [0, new]], mean)
        assert (variance > 0.0).all()


def test_no_values_for_events(train_data: TaskData, validation_data: TaskData) -> None:
    scale = ValueScale(Feedback.IMPLICIT, 0.0, 5.0, 1.0)
    train, validation = (replace(data, scale=scale) for data in (train_data, validation_data))
    average = fitted(train, validation, ("popularity", "item_knn"))
    support = full_support(validation, np.arange(validation.n_users))

    assert average.values is None
    assert average.adapt(support).mean_var()[0].isnan().all()


def test_its_forecast_is_as_good_as_its_best_member(
    train_data: TaskData, validation_data: TaskData, test_data: TaskData, fit
) -> None:
    """Judged by likelihood on other users: the weights were learned by it."""
    from metarec_core.episodes.sampling import evaluation_episodes
    from metarec_core.evaluation.metrics import gaussian_nll

    average = fit("average", train_data, validation_data)
    tasks = evaluation_episodes(
        test_data, np.arange(test_data.n_users), support_sizes=[0, 2, 5], max_query=16, seed=1
    )

    def nll(learner: Learner) -> float:
        return float(
            torch.cat(
                [
                    gaussian_nll(
                        *learner.adapt(batch.episode.support).mean_var(batch.episode.items),
                        batch.episode.values,
                        batch.episode.mask,
                    )
                    for batch in tasks.batches(100)
                ]
            ).mean()
        )

    members = {member.name: nll(member.learner) for member in average.members}
    valued = {name: value for name, value in members.items() if value == value}
    assert set(valued) == {"bias", "gaussian"}
    assert nll(average) < min(valued.values()) + 0.02


def test_itself_is_no_member() -> None:
    with pytest.raises(ValidationError, match="other learners than itself"):
        AverageConfig(members=("bias", "average"))


def test_a_refit_keeps_what_was_learned_on_the_held_out(
    train_data: TaskData, validation_data: TaskData
) -> None:
    first = fitted(train_data, validation_data)
    again = Average(first.config)
    context = FitContext(seed=3, device=torch.device("cpu"), max_support=16, earlier=first)
    again.fit(validation_data, validation_data, context)

    before, after = first.state(), again.state()
    assert before.keys() == after.keys()
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith(("lists.", "values."))} <= same
    assert "0.log_counts" not in same


def test_in_a_mode_those_members_speak_that_have_it(
    train_data: TaskData, validation_data: TaskData, test_data: TaskData, fit
) -> None:
    average = fit("average", train_data, validation_data)
    support = full_support(test_data, np.arange(test_data.n_users))
    featureless = replace(support, user_features=torch.zeros_like(support.user_features))

    assert in_mode(average, "personalised") is average
    collaborative = in_mode(average, "collaborative")
    assert [member.name for member in collaborative.members] == [
        "popularity",
        "bias",
        "item_knn",
        "amortised",
    ]
    seen, blind = (collaborative.adapt(each) for each in (support, featureless))
    assert torch.equal(seen.scores(), blind.scores())
    assert not torch.equal(average.adapt(support).scores(), average.adapt(featureless).scores())
    # Of those that predict values bias alone is left: the mixture is that one.
    bias = average.members[1].learner.adapt(support)
    assert torch.allclose(seen.mean_var()[0], bias.mean_var()[0].double(), atol=1e-5)

    content = in_mode(average, "content")
    assert [member.name for member in content.members] == ["amortised"]
    assert content.adapt(support).mean_var()[0].isnan().all()
    with pytest.raises(ModelError, match="a mode that one of its members has: popularity"):
        in_mode(fitted(train_data, validation_data, ("popularity",)), "content")


def test_items_that_nobody_met_neither_compete_nor_count(
    train_data: TaskData, validation_data: TaskData
) -> None:
    average = Average(AverageConfig(members=("popularity", "item_knn")))
    context = FitContext(seed=1, device=torch.device("cpu"), max_support=16, max_query=16)
    average.fit(train_data, validation_data, context)
    met = torch.zeros(validation_data.n_items, dtype=torch.bool)
    met[[0, 3]] = True
    tasks = HeldOut(average, validation_data, average.config, context, met).list_tasks()
    competing = tasks.scores[..., 0] > -1e4
    assert tasks.target.any()
    assert int(tasks.target.sum(dim=1).max()) <= int(competing.sum(dim=1).max()) <= 2
    assert not (tasks.target & ~competing).any()


def test_a_target_that_no_member_would_show_is_left_out(
    train_data: TaskData, validation_data: TaskData
) -> None:
    context = FitContext(seed=1, device=torch.device("cpu"), max_support=16, max_query=16)
    met = torch.ones(validation_data.n_items, dtype=torch.bool)
    average = Average(AverageConfig(members=("popularity", "item_knn"), candidates=20))
    average.fit(train_data, validation_data, context)

    def held_out(candidates: int) -> ListTasks:
        config = AverageConfig(members=("popularity", "item_knn"), candidates=candidates)
        return HeldOut(average, validation_data, config, context, met).list_tasks()

    few, all_items = held_out(20), held_out(validation_data.n_items)
    assert 0 < int(few.target.sum()) < int(all_items.target.sum())
    # Target or not, candidates are those of the highest mean score.
    for tasks in (few, all_items):
        assert bool((tasks.scores.mean(dim=2).diff(dim=1) <= 1e-5).all())
