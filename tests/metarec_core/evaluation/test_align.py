"""A champion of another catalogue answers in tonight's indices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metarec_core.episodes.sampling import evaluation_episodes
from metarec_core.episodes.types import Support, TaskData
from metarec_core.errors import ModelError
from metarec_core.evaluation import align, evaluate
from metarec_core.learners.base import FitContext
from metarec_core.learners.bias import Bias, BiasConfig

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bias(task_data: TaskData) -> Bias:
    learner = Bias(BiasConfig())
    learner.fit(task_data, task_data, FitContext(seed=0, device=CPU))
    return learner


def reordered(bias: Bias, order: torch.Tensor) -> Bias:
    """The same learner on the catalogue ``order``."""
    state = bias.state()
    return Bias.from_state(
        BiasConfig(),
        state | {"item_bias": state["item_bias"][order], "item_count": state["item_count"][order]},
        CPU,
    )


def test_a_reordered_catalogue_with_foreign_items_changes_no_figure(
    task_data: TaskData, bias: Bias
) -> None:
    order = torch.from_numpy(np.random.default_rng(0).permutation(60))
    champion = reordered(bias, order)
    tasks = evaluation_episodes(task_data, np.arange(40), support_sizes=(0, 3), max_query=8, seed=1)
    aligned = align(champion, np.argsort(order.numpy()))
    assert bool(aligned.known.all())
    assert evaluate(aligned, tasks, device=CPU).equals(evaluate(bias, tasks, device=CPU))


def test_unknown_items_rank_last_and_have_no_forecast(bias: Bias) -> None:
    # The champion knows every item but 7 and 9, and one that is gone tonight.
    kept = [index for index in range(60) if index not in (7, 9)]
    champion = reordered(bias, torch.tensor([*kept, 0]))
    own = np.full(60, -1)
    own[kept] = np.arange(58)
    aligned = align(champion, own)
    support = Support(
        items=torch.tensor([[7, 3, 0]]),
        values=torch.tensor([[5.0, 1.0, 0.0]]),
        mask=torch.tensor([[True, True, False]]),
        user_features=torch.zeros(1, 0),
    )
    predictor = aligned.adapt(support)
    scores = predictor.scores()
    assert scores.shape == (1, 60)
    assert set(scores[0].argsort()[:2].tolist()) == {7, 9}
    assert scores.isfinite().all()
    mean, variance = predictor.mean_var()
    assert mean.isnan()[0].nonzero().flatten().tolist() == [7, 9]
    assert torch.equal(mean.isnan(), variance.isnan())
    some = torch.tensor([[9, 12]])
    assert torch.equal(predictor.scores(some), scores[:, [9, 12]])
    assert predictor.mean_var(some)[0].isnan().tolist() == [[True, False]]
    # The unknown support item is as if it were not there.
    without = Support(
        items=torch.tensor([[3]]),
        values=torch.tensor([[1.0]]),
        mask=torch.tensor([[True]]),
        user_features=torch.zeros(1, 0),
    )
    assert torch.allclose(scores, aligned.adapt(without).scores())


def test_a_foreign_catalogue_is_refused(bias: Bias) -> None:
    with pytest.raises(ModelError, match="none of tonight's 60 items"):
        align(bias, np.full(60, -1))
