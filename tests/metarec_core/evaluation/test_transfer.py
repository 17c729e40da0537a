"""A study of transfer: who is asked, who is learned from, and flat rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from metarec_core.config import CleaningConfig, Config, parse_config
from metarec_core.episodes.split import position
from metarec_core.errors import DatasetError, ModelError
from metarec_core.evaluation.protocols.corpus import Corpus, read_corpus
from metarec_core.evaluation.transfer import Transferred, study_transfer
from metarec_core.evaluation.transfer_table import (
    transfer_document,
    transfer_lines,
    transfer_rows,
)
from metarec_core.serving.bundle import load_bundle, save_bundle

QUICK = {
    "seed": 3,
    "transfer": {
        "fractions": [0.3, 1.0],
        "seeds": [1, 2],
        "support_sizes": [1, 4],
        "min_item_interactions": 2,
        "resamples": 200,
    },
    "learners": {"amortised": {"dim": 8, "hidden": 8, "loop": {"epochs": 3, "batch_tasks": 16}}},
}


@pytest.fixture(scope="module")
def config() -> Config:
    return parse_config(QUICK)


@pytest.fixture(scope="module")
def corpora(small_pair: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, Corpus]:
    scratch = tmp_path_factory.mktemp("pair")
    cleaning = CleaningConfig(threads=1)
    first, second = (
        read_corpus(name, small_pair / name, scratch, cleaning)
        for name in ("ml-1m", "ml-latest-small")
    )
    return first, second


@pytest.fixture(scope="module")
def found(corpora: tuple[Corpus, Corpus], config: Config) -> Transferred:
    return study_transfer(*corpora, config, lambda _: None)


def test_every_start_is_judged_on_the_same_users(found: Transferred) -> None:
    starts = {"popularity", "scratch", "scratch_known_items", "features", "features_and_items"}
    assert set(found.figures["start"]) == starts
    users = found.figures.group_by("start", "fraction", "seed", "k").agg(pl.col("user").sort())
    assert len(users) == 5 * 2 * 2 * 2
    assert users["user"].n_unique() == 1
    assert all(position(user) < 0.2 for user in found.test_users)
    assert found.figures["ndcg_at_10"].is_between(0.0, 1.0).all()
    assert found.shared["columns"] >= 4
    assert found.shared["items"] > 10
    assert found.shared["users_at_0.3"] < found.shared["users_at_1"]


def test_test_users_teach_nothing(
    corpora: tuple[Corpus, Corpus], config: Config, found: Transferred
) -> None:
    """Their interactions below relevance may be what they like: no other user's figure moves."""
    source, target = corpora
    places = np.array([position(user) for user in target.users["user_id"]])
    judge = pl.col("user").is_in(np.flatnonzero(places < 0.2).tolist())
    low = target.interactions.filter(~(judge & (pl.col("value") < 4)))
    assert len(low) < len(target.interactions)
    short = config.changed({"transfer": {"seeds": [1], "fractions": [0.3]}})
    again = study_transfer(source, replace(target, interactions=low), short, lambda _: None)
    same = found.figures.filter(pl.col("seed") == 1, pl.col("fraction") == 0.3)
    assert again.figures.equals(same)


def test_rows_are_flat_and_paired_with_the_better_from_scratch(
    corpora: tuple[Corpus, Corpus], config: Config, found: Transferred
) -> None:
    rows = transfer_rows(found.figures, "amortised", seed=1, resamples=200, confidence=0.95)
    assert len(rows) == 5 * 2 * 3
    for row in rows:
        part = found.figures.filter(
            pl.col("start") == (row["start"] or "popularity"),
            pl.col("fraction") == row["fraction"],
            pl.lit(row["k"] is None) | (pl.col("k") == (row["k"] or 0)),
        )
        assert row["value"] == pytest.approx(part["ndcg_at_10"].mean())
        scratch = max(
            one["value"]
            for one in rows
            if (one["fraction"], one["k"]) == (row["fraction"], row["k"])
            and (one["start"] or "").startswith("scratch")
        )
        assert row["ratio"] == pytest.approx(row["value"] / scratch)
        if row["best_baseline"] is None:
            assert (row["value"], row["diff_low"]) == (scratch, None)
        else:
            assert row["diff_low"] <= row["diff_high"]
    named = dict(zip(("source", "target"), corpora, strict=True))
    document = transfer_document(config, named, found, rows)
    assert json.loads(json.dumps(document))["rows"] == rows
    lines = transfer_lines(document)
    assert any("from its features and items" in line and " x " in line for line in lines)


def test_the_started_learner_can_be_kept(found: Transferred, tmp_path: Path) -> None:
    save_bundle(found.bundle, tmp_path)
    loaded = load_bundle(tmp_path)
    assert loaded.dataset == "ml-latest-small"
    state, again = found.bundle.learner.state(), loaded.learner.state()
    assert all((state[name] == again[name]).all() for name in state)
    assert len(loaded.catalogue) == found.shared["catalogue"]


def test_a_target_without_test_users_is_refused(
    corpora: tuple[Corpus, Corpus], config: Config
) -> None:
    asked = config.changed({"transfer": {"support_sizes": [100]}})
    with pytest.raises(DatasetError, match=r"0 test users.*lower transfer\.support_sizes"):
        study_transfer(*corpora, asked, lambda _: None)


def test_datasets_that_share_nothing_are_refused(
    corpora: tuple[Corpus, Corpus], config: Config
) -> None:
    source, target = corpora
    tables = target.descriptor.items
    assert tables is not None
    bare = target.descriptor.model_copy(
        update={"items": tables.model_copy(update={"features": {}})}
    )
    nameless = target.items.with_columns(pl.lit(None, dtype=pl.String).alias("title"))
    stranger = replace(target, descriptor=bare, items=nameless)
    short = config.changed({"transfer": {"seeds": [1], "fractions": [1.0]}})
    with pytest.raises(ModelError, match="no feature value and no title"):
        study_transfer(source, stranger, short, lambda _: None)
