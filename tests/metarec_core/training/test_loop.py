"""Training resumes to the same bits, stops early, and keeps averaged weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from metarec_core.episodes.types import InteractionMatrix, TaskData, ValueScale
from metarec_core.learners.base import FitContext
from metarec_core.learners.gaussian import Gaussian, GaussianConfig
from metarec_core.schema import Feedback
from metarec_core.training.loop import LoopConfig, set_rate

CONTEXT = FitContext(seed=3, device=torch.device("cpu"), max_support=8, max_query=8)


@pytest.fixture(scope="module")
def data() -> TaskData:
    return planted(60)


def large() -> TaskData:
    return planted(700)


def planted(n_users: int) -> TaskData:
    rng = np.random.default_rng(0)
    n_items, each = 40, 15
    items = np.stack([np.sort(rng.choice(n_items, each, replace=False)) for _ in range(n_users)])
    taste, kinds = rng.normal(size=(n_users, 3)), rng.normal(size=(n_items, 3))
    values = np.clip(3 + np.take_along_axis(taste @ kinds.T, items, axis=1), 1, 5)
    return TaskData(
        interactions=InteractionMatrix(
            np.arange(0, n_users * each + 1, each),
            items.ravel().astype(np.int64),
            values.ravel().astype(np.float32),
        ),
        user_features=rng.normal(size=(n_users, 2)).astype(np.float32),
        item_features=kinds.astype(np.float32),
        scale=ValueScale(Feedback.EXPLICIT, 1, 5, 4),
    )


def learner(**loop) -> Gaussian:
    settings = {"epochs": 6, "batch_tasks": 16} | loop
    return Gaussian(
        GaussianConfig(taste_dim=4, exposure_dim=4, hidden=8, loop=LoopConfig(**settings))
    )


class KilledError(Exception):
    pass


def test_a_killed_run_ends_with_the_bits_of_an_uninterrupted_one(
    data: TaskData, tmp_path: Path
) -> None:
    whole = learner()
    report = whole.fit(data, data, CONTEXT)

    def kill(step: int, steps: int, metrics) -> None:
        if step == 3:
            raise KilledError

    resumed = learner()
    with pytest.raises(KilledError):
        resumed.fit(data, data, replace(CONTEXT, work=tmp_path, progress=kill))
    epochs: list[int] = []
    again = learner()
    second = again.fit(
        data,
        data,
        replace(CONTEXT, work=tmp_path, progress=lambda step, *_: epochs.append(step)),
    )
    assert epochs == [4, 5, 6]
    assert second.curves == report.curves
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, again.state()[name]), name


def test_a_damaged_checkpoint_is_set_aside_and_training_begins_anew(
    data: TaskData, tmp_path: Path
) -> None:
    learner(epochs=2).fit(data, data, replace(CONTEXT, work=tmp_path))
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    epochs: list[int] = []
    context = replace(CONTEXT, work=tmp_path, progress=lambda step, *_: epochs.append(step))
    learner(epochs=2).fit(data, data, context)
    assert epochs == [1, 2]


def test_two_threads_give_the_same_bits_again(data: TaskData) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        states = []
        for _ in range(2):
            # Large enough for PyTorch to split the work.
            wide = Gaussian(
                GaussianConfig(
                    taste_dim=32,
                    exposure_dim=128,
                    hidden=64,
                    loop=LoopConfig(epochs=4, batch_tasks=64),
                )
            )
            wide.fit(large(), data, CONTEXT)
            states.append(wide.state())
    finally:
        torch.set_num_threads(before)
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


def test_it_stops_when_validation_no_longer_improves(data: TaskData) -> None:
    report = learner(epochs=500, patience=3, learning_rate=0.05).fit(data, data, CONTEXT)
    assert report.facts["epochs"] < 500
    losses = report.curves["loss"]
    assert report.facts["best_loss"] == min(losses)
    assert len(losses) == report.facts["best_epoch"] + 3


def test_another_seed_gives_other_weights(data: TaskData) -> None:
    one, two = learner(epochs=1), learner(epochs=1)
    one.fit(data, data, CONTEXT)
    two.fit(data, data, replace(CONTEXT, seed=4))
    assert not torch.equal(one.state()["table.taste"], two.state()["table.taste"])


def test_one_cycle_rises_and_falls_to_nothing() -> None:
    config = LoopConfig(epochs=10, learning_rate=0.1, schedule="one_cycle")
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
    rates = []
    for epoch in range(1, 11):
        for step in range(5):
            set_rate(optimizer, config, epoch, step, 5)
            rates.append(optimizer.param_groups[0]["lr"])
    assert np.argmax(rates) == 14
    assert rates[14] == pytest.approx(0.1)
    assert (np.diff(rates[:15]) > 0).all()
    assert (np.diff(rates[14:]) < 0).all()
    assert rates[0] < 0.01
    assert rates[-1] == pytest.approx(0.0, abs=1e-12)
