"""Studies repeat by their seed, go on after a kill, prune, and give a night its settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import optuna
import polars as pl
import pytest
import torch

from metarec_core.config import Config, load_config
from metarec_core.config.describe import describe_settings
from metarec_core.episodes.split import Split
from metarec_core.episodes.store import Tasks
from metarec_core.episodes.types import InteractionMatrix, TaskData, ValueScale
from metarec_core.errors import ConfigError, ModelError, StorageError
from metarec_core.learners.bias import Bias
from metarec_core.learners.gaussian import Gaussian
from metarec_core.schema import Feedback
from metarec_core.search import Choice, Integer, Uniform
from metarec_core.training.judged_fit import JudgedFits
from metarec_core.training.search_space import as_tree, present, suggest
from metarec_core.training.tuning import Trial, Tuning, study_path, study_settings, tune

CPU = torch.device("cpu")
QUICK = ["episodes.support_sizes=[0,3]", "training.threads=1"]


@pytest.fixture(scope="module")
def tasks() -> Tasks:
    """60 users who like some kinds of 30 items; 12 of them choose, 12 are never to be read."""
    rng = np.random.default_rng(0)
    n_users, n_items, each = 60, 30, 10
    items = np.stack([np.sort(rng.choice(n_items, each, replace=False)) for _ in range(n_users)])
    taste, kinds = rng.normal(size=(n_users, 3)), rng.normal(size=(n_items, 3))
    values = np.clip(3 + np.take_along_axis(taste @ kinds.T, items, axis=1), 1, 5)
    split = np.full(n_users, Split.TRAIN, dtype=np.int8)
    split[:12], split[12:24] = Split.VALIDATION, Split.TEST
    return Tasks(
        data=TaskData(
            interactions=InteractionMatrix(
                np.arange(0, n_users * each + 1, each),
                items.ravel().astype(np.int64),
                values.ravel().astype(np.float32),
            ),
            user_features=rng.normal(size=(n_users, 2)).astype(np.float32),
            item_features=kinds.astype(np.float32),
            scale=ValueScale(Feedback.EXPLICIT, 1, 5, 4),
        ),
        split=split,
        user_ids=pl.Series("user_id", [str(user) for user in range(n_users)]),
        catalogue=pl.DataFrame({"item_id": [], "title": []}),
        min_task_interactions=5,
    )


def config(*settings: str) -> Config:
    return load_config(None, [*QUICK, "tune.learner=bias", *settings])


class Heard:
    """A watch that remembers, and may be told to break off."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.trials: list[Trial] = []
        self.epochs: dict[int, list[int]] = {}
        self._stop_at = stop_at
        self._number = -1

    @contextmanager
    def __call__(self, number: int, values: Mapping[str, object]) -> Iterator[Heard]:
        self._number = number
        if number == self._stop_at:
            raise KeyboardInterrupt
        yield self

    def epoch(self, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        self.epochs.setdefault(self._number, []).append(step)

    def ended(self, trial: Trial) -> None:
        self.trials.append(trial)


def run(tasks: Tasks, asked: Config, storage: Path, heard: Heard | None = None) -> Tuning:
    return tune(tasks, asked, device=CPU, storage=storage, watch=heard or Heard())


def plain(found: Tuning) -> list[dict[str, object]]:
    return [asdict(trial) | {"seconds": 0.0} for trial in found.trials]


def test_a_space_becomes_optunas() -> None:
    space = {
        "a": Uniform(0.1, 10.0, log=True),
        "b.c": Integer(2, 9),
        "d": Choice(("x", "y")),
        "e": Uniform(-1.0, 1.0),
    }
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    values = suggest(trial, space)
    assert list(values) == list(space)
    assert trial.distributions == {
        "a": optuna.distributions.FloatDistribution(0.1, 10.0, log=True),
        "b.c": optuna.distributions.IntDistribution(2, 9),
        "d": optuna.distributions.CategoricalDistribution(("x", "y")),
        "e": optuna.distributions.FloatDistribution(-1.0, 1.0),
    }
    assert as_tree({"a": 1.0, "b.c": 3, "b.d": 4}) == {"a": 1.0, "b": {"c": 3, "d": 4}}


def test_present_settings_outside_of_the_space_are_no_trial() -> None:
    space = Bias.Config.search
    inside = Bias.Config().changed({"item_shrinkage": 50.0})
    assert present(inside, space) == {"item_shrinkage": 50.0, "user_shrinkage": 3.0}
    assert present(Bias.Config().changed({"item_shrinkage": 500.0}), space) is None


def test_the_same_seed_gives_the_same_trials_and_another_one_others(
    tasks: Tasks, tmp_path: Path
) -> None:
    asked = config("tune.trials=4", "tune.metric=mae")
    first, second = (run(tasks, asked, tmp_path / name / "s.db") for name in ("one", "two"))
    assert plain(first) == plain(second)
    other = run(tasks, config("tune.trials=4", "tune.metric=mae", "seed=8"), tmp_path / "o.db")
    # The present settings come first, whatever the seed.
    assert (
        other.trials[0].values
        == first.trials[0].values
        == {
            "item_shrinkage": 5.0,
            "user_shrinkage": 3.0,
        }
    )
    assert all(
        mine.values != theirs.values
        for mine, theirs in zip(first.trials[1:], other.trials[1:], strict=True)
    )


def test_an_interrupted_study_ends_like_one_that_was_not(tasks: Tasks, tmp_path: Path) -> None:
    # Enough trials for the sampler to have left its random start.
    asked = config("tune.trials=13", "tune.metric=mae")
    whole = run(tasks, asked, tmp_path / "whole.db")
    for stop_at in (0, 5, 11):
        with pytest.raises(KeyboardInterrupt):
            run(tasks, asked, tmp_path / "cut.db", Heard(stop_at))
    heard = Heard()
    resumed = run(tasks, asked, tmp_path / "cut.db", heard)
    assert [trial.number for trial in heard.trials] == [11, 12]
    assert plain(resumed) == plain(whole)
    assert resumed.winner == whole.winner
    assert set(whole.importance) == {"item_shrinkage", "user_shrinkage"}


def test_more_trials_go_on_and_none_are_repeated(tasks: Tasks, tmp_path: Path) -> None:
    few = run(tasks, config("tune.trials=2", "tune.metric=mae"), tmp_path / "s.db")
    heard = Heard()
    more = run(tasks, config("tune.trials=3", "tune.metric=mae"), tmp_path / "s.db", heard)
    assert plain(more)[:2] == plain(few)
    assert [trial.number for trial in heard.trials] == [2]


def test_no_trial_begins_after_the_time(tasks: Tasks, tmp_path: Path) -> None:
    asked = config("tune.trials=50", "tune.metric=mae", "tune.timeout_minutes=0.000001")
    assert len(run(tasks, asked, tmp_path / "s.db").trials) == 1


def network(*settings: str) -> Config:
    section = "learners.gaussian"
    return config(
        "tune.learner=gaussian",
        "tune.prune_after_trials=1",
        "tune.prune_after_epochs=1",
        f"{section}.loop.epochs=6",
        f"{section}.loop.batch_tasks=16",
        f"{section}.taste_dim=4",
        f"{section}.exposure_dim=16",
        f"{section}.hidden=16",
        *settings,
    )


def test_a_network_that_is_behind_is_stopped(
    tasks: Tasks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = Gaussian.fit

    def worse(self, train, validation, context):
        """Every trial but the first is told to be a little worse than it is."""
        report = context.progress
        first = self.config.loop.learning_rate == 0.005

        def told(step, steps, metrics):
            report(step, steps, dict(metrics) | {"list_nll": float(not first) - step})

        object.__setattr__(context, "progress", told)
        return fit(self, train, validation, context)

    monkeypatch.setattr(Gaussian, "fit", worse)
    heard = Heard()
    found = run(tasks, network("tune.trials=3"), tmp_path / "s.db", heard)
    assert [trial.state for trial in found.trials] == ["completed", "pruned", "pruned"]
    assert [trial.score is None for trial in found.trials] == [False, True, True]
    assert found.best.number == 0
    # Median pruning begins after the warm-up epoch, and the fit itself went no further.
    assert heard.epochs == {0: [1, 2, 3, 4, 5, 6], 1: [1, 2], 2: [1, 2]}


def test_a_trial_that_cannot_be_fitted_counts_and_the_study_goes_on(
    tasks: Tasks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = Bias.fit

    def sometimes(self, train, validation, context):
        if self.config.item_shrinkage != 5.0:
            raise ModelError("fit", found="NaN", wanted="numbers", next_step="none")
        return fit(self, train, validation, context)

    monkeypatch.setattr(Bias, "fit", sometimes)
    asked = config("tune.trials=3", "tune.metric=mae")
    found = run(tasks, asked, tmp_path / "s.db")
    assert [trial.state for trial in found.trials] == ["completed", "failed", "failed"]
    assert "NaN" in str(found.trials[1].error)
    monkeypatch.setattr(Bias.Config, "search", {"item_shrinkage": Uniform(6.0, 7.0)})
    with pytest.raises(ModelError, match="no completed trial out of 3"):
        run(tasks, asked, tmp_path / "none.db")


def test_the_winner_is_a_file_that_a_night_takes(tasks: Tasks, tmp_path: Path) -> None:
    asked = config("tune.trials=5", "tune.metric=mae", "recommend.k=7")
    found = run(tasks, asked, tmp_path / "s.db")
    assert found.best.score == min(trial.score or 9.0 for trial in found.trials)
    file = tmp_path / "winner.yaml"
    file.write_text(describe_settings(found.winner))
    loaded = load_config(file)
    assert loaded == found.winner
    assert loaded.recommend.k == 7
    section = loaded.learners.bias
    assert {
        "item_shrinkage": section.item_shrinkage,
        "user_shrinkage": section.user_shrinkage,
    } == dict(found.best.values)


def test_trials_are_judged_on_validation_users_alone(tasks: Tasks) -> None:
    fits = JudgedFits(tasks, config(), CPU)
    assert fits.judging.tolist() == list(range(12))


def test_an_average_is_judged_on_users_whom_its_weights_have_not_met(
    tasks: Tasks, tmp_path: Path
) -> None:
    asked = config(
        "tune.learner=average", "tune.trials=2", "learners.average.members=[popularity,bias]"
    )
    fits = JudgedFits(tasks, asked, CPU)
    met = fits._choosing.tolist()
    assert sorted([*met, *fits.judging.tolist()]) == list(range(12))
    found = run(tasks, asked, tmp_path / "s.db")
    assert set(found.best.values) == {"top", "smoothing"}


def test_a_metric_that_the_learner_lacks_is_said(tasks: Tasks, tmp_path: Path) -> None:
    asked = config("tune.learner=item_knn", "tune.metric=mae", "tune.trials=2")
    with pytest.raises(ConfigError, match=r"tune\.metric.*ndcg_at_10"):
        run(tasks, asked, tmp_path / "s.db")


@pytest.mark.parametrize(
    ("name", "why"), [("popularity", "has no search space"), ("magic", "is unknown")]
)
def test_a_learner_without_a_space_is_refused_before_anything_runs(name: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"tune.learner.*{why}.*'bias'"):
        config(f"tune.learner={name}")


def test_a_file_that_is_no_study_is_named(tasks: Tasks, tmp_path: Path) -> None:
    (tmp_path / "s.db").write_text("not a database" * 100)
    with pytest.raises(StorageError, match=r"s\.db"):
        run(tasks, config(), tmp_path / "s.db")


def test_other_settings_make_another_study_and_more_trials_do_not(tmp_path: Path) -> None:
    def place(*settings: str, data: str = "a") -> Path:
        return study_path(tmp_path, study_settings(config(*settings), CPU), {"episodes": data})

    base = place()
    assert place("tune.trials=99", "tune.timeout_minutes=3", "recommend.k=3") == base
    others = {
        place("seed=8"),
        place("tune.metric=mae"),
        place("tune.learner=ease"),
        place("learners.bias.sweeps=3"),
        place("episodes.max_query=9"),
        place(data="b"),
    }
    assert base not in others
    assert len(others) == 6
