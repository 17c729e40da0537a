from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from metarec_core.config import CleaningConfig
from metarec_core.errors import DatasetError
from metarec_core.evaluation.protocols import corpus as corpus_module
from metarec_core.evaluation.protocols.corpus import (
    STATE,
    Corpus,
    Universe,
    find_dataset,
    read_corpus,
    require_states,
)
from metarec_core.home import Home
from metarec_core.ingest.descriptor import DatasetDescriptor


def test_ids_stand_in_numeric_order_and_states_stay_with_their_rows(
    corpus: Corpus, tmp_path: Path
) -> None:
    ids = corpus.users["user_id"].cast(pl.Int64).to_list()
    assert ids == sorted(ids)
    assert corpus.users["user_id"].to_list() != sorted(corpus.users["user_id"].to_list())
    users = corpus.users["user_id"].cast(pl.Int64).to_numpy()[corpus.interactions["user"]]
    items = corpus.items["item_id"].cast(pl.Int64).to_numpy()[corpus.interactions["item"]]
    cold_user, cold_item = users >= 2 * 60 + 3, items >= 3 * 90 + 2
    wanted = np.select(
        [cold_user & cold_item, cold_user, cold_item],
        ["user_and_item_cold", "user_cold", "item_cold"],
        "warm",
    )
    assert corpus.interactions[STATE].to_list() == wanted.tolist()


def test_features_come_from_training_rows_alone(corpus: Corpus) -> None:
    train = corpus.interactions.filter(pl.col(STATE) == "warm")
    universe = Universe.of(corpus, np.arange(len(corpus.items)), train, seed=1)
    changed = corpus.interactions.with_columns(pl.lit(1.0).alias("value"))
    again = Universe.of(
        corpus, np.arange(len(corpus.items)), changed.filter(pl.col(STATE) == "warm"), seed=1
    )
    assert np.array_equal(universe.item_features, again.item_features)
    assert np.array_equal(universe.user_features, again.user_features)
    assert universe.item_features.shape[1] < 170
    assert any(name.startswith("writers:svd") for name in universe.item_names)


def test_catalogue_indices_and_corpus_rows_name_the_same_items(corpus: Corpus) -> None:
    train = corpus.interactions.filter(pl.col(STATE) == "warm")
    catalogue = np.unique(train["item"].to_numpy())[::2]
    universe = Universe.of(corpus, catalogue, train, seed=1)
    inside = universe.within(train)
    data = universe.task_data(inside)
    assert data.n_items == len(catalogue)
    assert np.array_equal(
        catalogue[data.interactions.items], inside.sort("user", "item")["item"].to_numpy()
    )


def test_a_set_without_states_is_refused(corpus: Corpus) -> None:
    bare = Corpus(
        corpus.descriptor,
        corpus.interactions.drop(STATE),
        corpus.users,
        corpus.items,
        corpus.fingerprint,
    )
    require_states(corpus)
    with pytest.raises(DatasetError, match="melu_state"):
        require_states(bare)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="ml-1m"):
        find_dataset("ml-1m-content", "ml-1m", tmp_path, Home(tmp_path))


def test_a_set_that_is_in_neither_place_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "home")
    asked: list[str] = []

    def fetch(descriptor: DatasetDescriptor, into: Home) -> None:
        asked.append(descriptor.name)
        (into.datasets / descriptor.name).mkdir(parents=True)
        for name in descriptor.fetch.files:
            (into.datasets / descriptor.name / name).touch()

    monkeypatch.setattr(corpus_module, "fetch", fetch)
    found = find_dataset("ml-100k", "ml-100k", tmp_path, home)
    assert asked == ["ml-100k"]
    assert found == home.datasets / "ml-100k"
    (tmp_path / "ml-100k").mkdir()
    for file in found.iterdir():
        (tmp_path / "ml-100k" / file.name).touch()
    assert find_dataset("ml-100k", "ml-100k", tmp_path, home) == tmp_path / "ml-100k"
    assert asked == ["ml-100k"]


def test_movielens_1m_is_read_whole(shared_data: Path, tmp_path: Path) -> None:
    for name, columns in (("ml-1m", 20), ("ml-1m-content", 150)):
        corpus = read_corpus(name, shared_data / "ml-1m", tmp_path, CleaningConfig(threads=1))
        assert len(corpus.interactions) == 1_000_209
        assert corpus.interactions[STATE].null_count() == 12
        assert len(corpus.users) == 6040
        train = corpus.interactions.filter(pl.col(STATE) == "warm")
        universe = Universe.of(corpus, train["item"].to_numpy(), train, seed=1)
        assert columns <= universe.item_features.shape[1] <= 200
