"""A tell-tale is planted where nothing may look; everything that must not see it stays the same.

The whole chain runs twice, from files to trained learners: once as it is, once with what test users
did (or, within a task, what the query holds) replaced.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from metarec_core.cleaning.clean import clean_tables
from metarec_core.config import CleaningConfig, EpisodesConfig, ValidationConfig
from metarec_core.episodes.sampling import evaluation_episodes
from metarec_core.episodes.split import Split, split_users
from metarec_core.episodes.store import Tasks, build_episodes, load_tasks
from metarec_core.features.build import build_features
from metarec_core.ingest.descriptor import load_descriptor
from metarec_core.ingest.read import ingest_tables
from metarec_core.learners.base import FitContext
from metarec_core.learners.registry import LEARNERS

CONFIG = EpisodesConfig(min_tasks=2)
SHORT = {
    "amortised": {"dim": 4, "hidden": 4, "loop": {"epochs": 2}},
    "content": {"dim": 4, "hidden": 4, "loop": {"epochs": 2}},
    "gaussian": {"taste_dim": 3, "exposure_dim": 3, "hidden": 4, "loop": {"epochs": 2}},
    "maml": {"item_dim": 3, "exposure_dim": 3, "hidden": 4, "loop": {"epochs": 1}},
}
CONTEXT = FitContext(
    seed=3,
    device=torch.device("cpu"),
    settings={name: LEARNERS[name].Config.model_validate(own) for name, own in SHORT.items()},
)


def prepare(dataset, out: Path) -> tuple[Tasks, Path]:
    """Files to tasks."""
    descriptor = load_descriptor(dataset.descriptor)
    raw, clean, features, episodes = (out / name for name in ("raw", "clean", "feat", "ep"))
    for place in (raw, clean, features, episodes):
        place.mkdir(parents=True)
    cleaning = CleaningConfig(threads=1)
    ingest_tables(descriptor, dataset.root, raw, validation=ValidationConfig(), cleaning=cleaning)
    clean_tables(raw, clean, descriptor=descriptor, config=cleaning)
    build_features(clean, features, descriptor=descriptor, config=CONFIG, seed=0)
    build_episodes(clean, features, episodes, scale=descriptor.scale(), config=CONFIG)
    return load_tasks(episodes, features), features


def is_test_user(column: str) -> pl.Expr:
    """Whether the user of a row judges."""
    return pl.col(column).map_elements(
        lambda user: (
            int(split_users([user], CONFIG.validation_fraction, CONFIG.test_fraction)[0])
            == Split.TEST
        ),
        return_dtype=pl.Boolean,
    )


def plant(dataset) -> None:
    """Test users suddenly love what they hated, are 999 years old, and joined a club of spies."""
    dataset.write(
        "interactions",
        dataset.read("interactions").with_columns(
            stars=pl.when(is_test_user("customer"))
            .then((6 - pl.col("stars").cast(pl.Int64)).cast(pl.String))
            .otherwise("stars")
        ),
    )
    dataset.write(
        "users",
        dataset.read("users").with_columns(
            age=pl.when(is_test_user("customer")).then(pl.lit("999")).otherwise("age"),
            club=pl.when(is_test_user("customer")).then(pl.lit("spies")).otherwise("club"),
        ),
    )


@pytest.fixture(scope="module")
def twice(
    tmp_path_factory: pytest.TempPathFactory, make_own_dataset: Callable
) -> tuple[tuple[Tasks, Path], tuple[Tasks, Path]]:
    root = tmp_path_factory.mktemp("leaks")
    honest, spoilt = make_own_dataset(root / "honest"), make_own_dataset(root / "spoilt")
    plant(spoilt)
    return prepare(honest, root / "one"), prepare(spoilt, root / "two")


def test_the_tell_tale_is_there(twice) -> None:
    (one, _), (two, _) = twice
    changed = one.data.interactions.values != two.data.interactions.values
    rows = np.repeat(np.arange(one.data.n_users), one.data.interactions.counts())
    assert changed.any()
    assert set(one.split[rows[changed]]) == {Split.TEST}


def test_imputation_and_encoding_do_not_see_it(twice) -> None:
    (one, first), (two, second) = twice
    for name in ("user_encoder.json", "item_encoder.json", "item_features.safetensors"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    others = one.split != Split.TEST
    assert (one.data.user_features[others] == two.data.user_features[others]).all()
    assert (one.data.user_features[~others] != two.data.user_features[~others]).any()


@pytest.mark.parametrize("name", LEARNERS)
def test_no_learner_sees_it(twice, name: str) -> None:
    states = []
    for tasks, _ in twice:
        kind = LEARNERS[name]
        learner = kind(kind.Config.model_validate(SHORT.get(name, {})))
        learner.fit(tasks.part(Split.TRAIN), tasks.part(Split.VALIDATION), CONTEXT)
        states.append(learner.state())
    for tensor, value in states[0].items():
        assert torch.equal(value, states[1][tensor]), tensor


@pytest.mark.parametrize("name", LEARNERS)
def test_no_forecast_sees_its_query(twice, name: str) -> None:
    (tasks, _), _ = twice
    kind = LEARNERS[name]
    learner = kind(kind.Config.model_validate(SHORT.get(name, {})))
    learner.fit(tasks.part(Split.TRAIN), tasks.part(Split.VALIDATION), CONTEXT)
    sampled = evaluation_episodes(
        tasks.data, tasks.users(Split.TEST), support_sizes=(3,), max_query=8, seed=5
    )
    episode = next(sampled.batches(100)).episode
    before = learner.adapt(episode.support).scores()

    # The same tasks, with every query value turned around in the data they are sampled from.
    matrix = tasks.data.interactions
    values = matrix.values.copy()
    for row, user in enumerate(episode.users.tolist()):
        start, stop = matrix.indptr[user], matrix.indptr[user + 1]
        asked = np.isin(matrix.items[start:stop], episode.items[row][episode.mask[row]].numpy())
        values[start:stop][asked] = 6 - values[start:stop][asked]
    spoilt = replace(tasks.data, interactions=replace(matrix, values=values))
    assert (values != matrix.values).any()
    again = evaluation_episodes(
        spoilt, tasks.users(Split.TEST), support_sizes=(3,), max_query=8, seed=5
    )
    twin = next(again.batches(100)).episode
    assert torch.equal(twin.support.values, episode.support.values)
    assert not torch.equal(twin.values, episode.values)
    assert torch.equal(learner.adapt(twin.support).scores(), before)
