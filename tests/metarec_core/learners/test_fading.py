from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metarec_core.episodes.types import TaskData
from metarec_core.learners.fading import _RIDGE, HALF_LIVES, Fading, _forecasts, liked_counts

DAY = 86_400
Dated = Callable[..., TaskData]


@pytest.fixture
def steady(dated: Dated) -> TaskData:
    """Items are chosen as often as ever."""
    rng = np.random.default_rng(0)
    shares = np.array([0.5, 0.25, 0.15, 0.1])
    rows = [(int(rng.choice(4, p=shares)), float(day), 5.0) for day in range(200) for _ in range(6)]
    return dated(*rows)


def test_an_interaction_of_the_half_lifes_age_counts_for_half(dated: Dated) -> None:
    data = dated(*[(0, 0, 5.0)] * 6, *[(1, 90, 5.0)] * 3, (2, 90, 1.0))
    fading = Fading((90.0, float("inf")), torch.tensor([1.0, 0.0]).double())
    expected = torch.from_numpy(np.log1p([3.0, 3.0, 0.0, 0.0]))
    torch.testing.assert_close(fading.appeal(data), expected)
    for_ever = Fading((90.0, float("inf")), torch.tensor([0.0, 1.0]).double())
    torch.testing.assert_close(for_ever.appeal(data), liked_counts(data).log1p())


def test_what_comes_later_is_not_counted_before(dated: Dated) -> None:
    data = dated((0, 0, 5.0), (1, 10, 5.0), (1, 20, 5.0))
    fading = Fading((30.0, float("inf")), torch.tensor([0.0, 1.0]).double())
    appeal = fading.appeal(data, until=10.0 * DAY)
    torch.testing.assert_close(appeal, torch.tensor([1.0, 0.0, 0.0, 0.0]).double().log1p())
    assert float(fading.share(data).sum()) == pytest.approx(1.0)


def test_where_fashions_change_what_is_recent_counts(fashions: TaskData, steady: TaskData) -> None:
    fading = Fading.learn(fashions)
    assert float(fading.weights[0]) > float(Fading.learn(steady).weights[0]) + 0.3
    appeal = fading.appeal(fashions)
    # The last fashion before all earlier ones, which were chosen as often.
    assert int(appeal[1:].argmax()) == fashions.n_items - 3
    assert appeal[-2] - appeal[1:-2].max() > 1.0


def test_where_nothing_changes_the_order_is_that_of_popularity(steady: TaskData) -> None:
    fading = Fading.learn(steady)
    assert float(fading.weights.sum()) == pytest.approx(1.0, abs=0.35)
    order = liked_counts(steady).argsort()
    assert torch.equal(fading.appeal(steady).argsort(), order)


def test_the_weights_are_those_of_the_best_forecast(fashions: TaskData) -> None:
    """No other weighting near by forecasts the later choices better, its distance paid for."""
    fading = Fading.learn(fashions)
    forecasts = list(_forecasts(fashions, fading.half_lives))

    def loss(weights: torch.Tensor) -> float:
        fit = [float(y @ torch.log_softmax(x @ weights, 0)) for x, y in forecasts]
        equal = 1.0 / len(weights)
        return _RIDGE * float((weights - equal).square().sum()) - sum(fit)

    reached = loss(fading.weights)
    generator = torch.Generator().manual_seed(1)
    for _ in range(50):
        step = 0.05 * torch.randn(len(fading.weights), generator=generator, dtype=torch.float64)
        assert loss(fading.weights + step) > reached


def test_without_times_it_is_popularity(fashions: TaskData) -> None:
    timeless = replace(fashions, interactions=replace(fashions.interactions, times=None))
    appeal = Fading.learn(timeless).appeal(timeless)
    torch.testing.assert_close(appeal, liked_counts(fashions).log1p())


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 500), st.sampled_from([1.0, 5.0])),
        min_size=1,
        max_size=40,
    )
)
def test_any_history_gives_numbers(dated: Dated, rows: list[tuple[int, int, float]]) -> None:
    data = dated(*rows)
    fading = Fading.learn(data)
    assert len(fading.weights) == len(HALF_LIVES) + 1
    assert torch.isfinite(fading.appeal(data)).all()
    again = Fading.learn(data)
    assert torch.equal(fading.weights, again.weights)
