import pytest
import torch
from torch import Tensor

from metarec_core.learners.average_weights import (
    KNOTS,
    ListTasks,
    by_size,
    decidedness,
    fit_list_weights,
    fit_value_weights,
)
from metarec_core.learners.top_weights import top_weights


def test_weights_are_shared_between_the_knots_around_a_size() -> None:
    hats = by_size(torch.tensor([0, 1, 3, 50, 400]))

    assert torch.allclose(hats.sum(dim=1), torch.ones(5))
    assert hats[0, 0] == hats[1, 1] == hats[3, -1] == hats[4, -1] == 1.0
    between = (torch.log1p(torch.tensor(3.0)) - torch.log(torch.tensor(3.0))) / (
        torch.log(torch.tensor(6.0)) - torch.log(torch.tensor(3.0))
    )
    assert hats[2, 3] == pytest.approx(float(between))
    assert hats[2, 2] == pytest.approx(1.0 - float(between))


def planted_tasks(seed: int) -> ListTasks:
    """Member 0 knows the targets of users with little support, member 1 those of the others."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.tensor(KNOTS).repeat_interleave(60)
    target = torch.rand(len(sizes), 40, generator=generator) < 0.2
    noise = torch.randn(len(sizes), 40, 2, generator=generator)
    little = (sizes < 5)[:, None]
    knows = torch.stack([target & little, target & ~little], dim=2)
    scores = noise + 2.0 * knows
    standard = (scores - scores.mean(dim=1, keepdim=True)) / scores.std(dim=1, keepdim=True)
    decided = torch.stack([decidedness(part) for part in standard.unbind(dim=2)], dim=1)
    return ListTasks(sizes, decided, standard, target)


def precision(scores: Tensor, target: Tensor) -> float:
    return float(target.gather(1, scores.topk(5, dim=1).indices).float().mean())


def test_a_member_counts_where_it_is_right() -> None:
    weights = fit_list_weights(planted_tasks(0), smoothing=0.1, top=5)
    fresh = planted_tasks(1)
    with torch.no_grad():
        mixed = weights(fresh.sizes, fresh.decided)
    little = fresh.sizes < 5

    assert (mixed[little, 0] > 2.0 * mixed[little, 1]).all()
    assert (mixed[~little, 1] > 2.0 * mixed[~little, 0]).all()
    together = precision(torch.einsum("tcm,tm->tc", fresh.scores, mixed), fresh.target)
    for member in range(2):
        assert together > precision(fresh.scores[..., member], fresh.target) + 0.1
    assert torch.equal(
        weights(fresh.sizes, fresh.decided[:, 1:], slice(1, 2)).detach(), mixed[:, 1:]
    )


def test_targets_far_down_do_not_make_a_good_member_vanish() -> None:
    """Half of the targets are chance: those among the best alone say what a score is worth."""
    generator = torch.Generator().manual_seed(2)
    n_tasks, n_items, n_best = 400, 2000, 30
    scores = torch.randn(n_tasks, n_items, generator=generator)
    likely = torch.softmax(2.0 * scores, dim=1).multinomial(4, generator=generator)
    anywhere = torch.randint(n_items, (n_tasks, 4), generator=generator)
    target = torch.zeros(n_tasks, n_items).scatter(1, torch.cat([likely, anywhere], 1), 1.0) > 0

    def weight(merit: Tensor) -> float:
        best = merit.topk(n_best, dim=1).indices
        sizes, decided = torch.full((n_tasks,), 5), torch.zeros(n_tasks, 1)
        tasks = ListTasks(sizes, decided, scores.gather(1, best)[..., None], target.gather(1, best))
        weights = fit_list_weights(tasks, smoothing=0.1, top=10)
        with torch.no_grad():
            return float(weights(torch.tensor([5]), torch.zeros(1, 1)))

    assert weight(scores) > 1.0
    assert weight(torch.where(target, torch.inf, scores)) < 0.5


def test_without_a_task_all_members_count_alike() -> None:
    tasks = planted_tasks(0)
    none = ListTasks(tasks.sizes[:0], tasks.decided[:0], tasks.scores[:0], tasks.target[:0])
    weights = fit_list_weights(none, smoothing=1.0, top=5)
    with torch.no_grad():
        mixed = weights(torch.tensor([0, 7]), torch.randn(2, 2))
    assert torch.allclose(mixed, torch.full((2, 2), 0.5))


def test_strong_smoothing_gives_one_weight_for_all_sizes() -> None:
    weights = fit_list_weights(planted_tasks(0), smoothing=1e6, top=5)
    assert float(weights.level.detach().std(dim=0).max()) < 0.1


def test_values_trust_the_better_member_and_own_up_to_the_error() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor(KNOTS).repeat_interleave(400)
    values = torch.randn(len(sizes), generator=generator)
    error = torch.randn(len(sizes), 2, generator=generator) * torch.tensor([0.5, 2.0])
    mean = values[:, None] + error
    too_sure = torch.full_like(mean, 0.01)

    weights = fit_value_weights(sizes, sizes, mean, too_sure, values, smoothing=0.01)

    with torch.no_grad():
        center, variance = weights(sizes, sizes, mean[:, None], too_sure[:, None])
    center, variance = center.squeeze(1), variance.squeeze(1)
    assert float((center - values).square().mean()) < 1.1 * 0.25
    inside = (center - values).abs() < 1.645 * variance.sqrt()
    assert float(inside.float().mean()) == pytest.approx(0.9, abs=0.04)


def test_a_member_that_owns_up_to_its_ignorance_steps_back_there() -> None:
    generator = torch.Generator().manual_seed(3)
    n = 4000
    sizes, values = torch.full((n,), 5), torch.randn(n, generator=generator)
    variance = torch.tensor([0.1, 1.0]).repeat(n, 1)
    variance[::2] = variance[::2].flip(1)  # each member knows one half of the items
    mean = values[:, None] + torch.randn(n, 2, generator=generator) * variance.sqrt()
    weights = fit_value_weights(sizes, sizes, mean, variance, values, smoothing=0.01)
    center, _ = weights(sizes, sizes, mean[:, None], variance[:, None])
    error = (center.squeeze(1) - values).square().mean()
    assert error < 0.6 * (mean.mean(dim=1) - values).square().mean()


def test_a_user_whose_support_was_badly_forecast_is_forecast_with_more_doubt() -> None:
    generator = torch.Generator().manual_seed(4)
    n, k = 6000, 20
    noise = torch.tensor([0.5, 2.0]).repeat(n // 2)
    draws = torch.randn(n, k + 1, generator=generator) * noise[:, None]
    sizes, misfit = torch.full((n,), k), draws[:, 1:].square().sum(dim=1)
    one = torch.ones(n, 1)
    weights = fit_value_weights(sizes, misfit, 0 * one, one, draws[:, 0], smoothing=0.01)
    with torch.no_grad():
        _, spread = weights(sizes, misfit, 0 * one[:, None], one[:, None])
    sd = spread.squeeze(1).sqrt()
    for own, stated in ((0.5, sd[::2]), (2.0, sd[1::2])):
        assert float(stated.mean()) == pytest.approx(own, rel=0.15)


def test_between_members_there_is_variance_too() -> None:
    sizes = torch.tensor([0, 5])
    mean, variance = torch.tensor([[[1.0, 3.0]]] * 2), torch.ones(2, 1, 2)
    weights = fit_value_weights(
        sizes, sizes, mean[:, 0], variance[:, 0], torch.tensor([2.0, 2.0]), smoothing=1e6
    )
    with torch.no_grad():
        weights.log_scale.zero_()
        weights.level.zero_()
        center, spread = weights(sizes, sizes, mean, variance)
        one, _ = weights(sizes, sizes, mean, variance, torch.tensor([True, False]).expand(2, 1, 2))
    assert (one == 1.0).all()
    assert torch.allclose(center, torch.full((2, 1), 2.0))
    assert torch.allclose(spread, torch.full((2, 1), 2.0))


def test_targets_count_by_their_nearness_to_the_top() -> None:
    scores = torch.arange(100.0).repeat(2, 1)
    weight = top_weights(scores, 10, base=0.1)

    assert torch.allclose(weight[:, 90], torch.full((2,), 0.55))
    assert (weight[:, 99] > 0.99).all()
    assert torch.allclose(weight[:, 0], torch.full((2,), 0.1))
    assert top_weights(scores, 1000).shape == (2, 100)
