"""A list explained at length, and what is said where parts of the night are gone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metarec_core.episodes.store import load_tasks
from metarec_core.errors import DatasetError, ModelError
from metarec_core.home import Home
from metarec_core.ranking.similar import SimilarConfig
from tasks.diversity import study_diversity
from tasks.recommend import recommend_users
from tasks.shown import show_user, similar_to_item, similar_to_user


@pytest.fixture
def published(workshop: Any) -> Iterator[Any]:
    """The workshop's home with lists of its bias champion."""
    ruling = workshop.enthrone(workshop.trained.path / "bias", "bias")
    study = study_diversity.fn(workshop.night, *workshop.data, ruling)
    recommend_users.fn(workshop.night, *workshop.data, ruling, study)
    yield workshop
    shutil.rmtree(workshop.night.home.lists)
    workshop.night.home.ensure()


@pytest.fixture
def copy(published: Any, tmp_path: Path) -> Home:
    """A copy of that home's lists and lake, of which parts may be removed."""
    home = Home(tmp_path / "home").ensure()
    for name in ("lists", "lake"):
        shutil.rmtree(home.root / name)
        shutil.copytree(published.night.home.root / name, home.root / name, symlinks=True)
    shutil.copytree(published.night.home.mlflow, home.mlflow, dirs_exist_ok=True)
    return home


def busiest(workshop: Any) -> tuple[str, int]:
    """The user with the most interactions, and how many."""
    tasks = load_tasks(workshop.episodes.path, workshop.features.path)
    counts = tasks.data.interactions.counts()
    return tasks.user_ids[int(np.argmax(counts))], int(counts.max())


def test_five_users_of_different_support_sizes(published: Any) -> None:
    tasks = load_tasks(published.episodes.path, published.features.path)
    counts = tasks.data.interactions.counts()
    sizes = np.unique(counts)
    wanted = sizes[np.linspace(0, len(sizes) - 1, 5).astype(int)]
    for size in wanted.tolist():
        user = tasks.user_ids[int(np.flatnonzero(counts == size)[0])]
        shown = show_user(published.night.home, user)
        assert shown.missing == []
        lines = shown.lines()
        assert lines[0].startswith(f"User {user}: {size} rating")
        assert "made by model version" in lines[0]
        text = "\n".join(lines)
        for row in shown.rows.to_dicts():
            assert f"{row['rank']}. {row['title']}" in text
        assert text.count("nine times in ten between") >= len(shown.rows)
        assert text.count("has these exact shares: ") == len(shown.rows)
        if size:
            assert text.count("of the catalogue") == len(shown.rows)


def test_the_list_alone_is_shown_where_the_night_is_gone(published: Any, copy: Home) -> None:
    user, _ = busiest(published)
    whole = show_user(copy, user)
    assert whole.portrait is not None
    shutil.rmtree(copy.lake / "features")
    partial = show_user(copy, user)
    assert partial.portrait is None
    assert "no longer in the lake" in partial.missing[0]
    assert partial.rows.equals(whole.rows)
    assert any("has these exact shares" in line for line in partial.lines())
    assert json.loads(partial.to_json())["missing"] == list(partial.missing)


def test_a_model_that_was_pruned_is_fetched_from_the_registry(
    published: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, _ = busiest(published)
    expected = show_user(published.night.home, user)
    monkeypatch.setattr("metarec_core.reporting.traces.trained_bundle", lambda *_: None)
    fetched = show_user(published.night.home, user)
    assert fetched.lines() == expected.lines()


def test_a_model_that_is_gone_is_said(copy: Home, published: Any) -> None:
    shutil.rmtree(copy.lake / "train")
    manifest = copy.lists / "latest" / "manifest.json"
    told = json.loads(manifest.read_text())
    told["model"]["version"] = 4321
    manifest.write_text(json.dumps(told))
    shown = show_user(copy, busiest(published)[0])
    assert shown.portrait is None
    assert "cannot be asked" in shown.missing[0]
    del told["model"]
    manifest.write_text(json.dumps(told))
    shown = show_user(copy, busiest(published)[0])
    assert "names no model" in shown.missing[0]
    assert shown.source == ""


def test_items_are_found_by_title_and_compared_by_features(published: Any) -> None:
    """Bias has one vector for all items: what is named stands in for it."""
    items = load_tasks(published.episodes.path, published.features.path).catalogue
    title, found = similar_to_item(published.night.home, items["item_id"][3], SimilarConfig(k=4))
    assert title == items["title"][3]
    assert found["rank"].to_list() == [1, 2, 3, 4]
    assert set(found["source"]) == {"features"}
    by_title, same = similar_to_item(published.night.home, title.upper(), SimilarConfig(k=4))
    assert (by_title, same.rows()) == (title, found.rows())
    with pytest.raises(DatasetError, match="none of the"):
        similar_to_item(published.night.home, "no such thing", SimilarConfig())


def test_users_alike_are_those_of_the_night(published: Any) -> None:
    user, _ = busiest(published)
    found = similar_to_user(published.night.home, user, SimilarConfig(k=7))
    assert len(found) == 7
    assert user not in set(found["similar_user_id"])
    assert found["similarity"].is_sorted(descending=True)
    with pytest.raises(DatasetError, match="no list in"):
        similar_to_user(published.night.home, "nobody", SimilarConfig())


def test_without_a_champion_nothing_is_alike(workshop: Any) -> None:
    with pytest.raises(ModelError, match="no champion yet"):
        similar_to_item(workshop.night.home, "1", SimilarConfig())


def test_without_the_night_users_cannot_be_compared(
    published: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, _ = busiest(published)
    monkeypatch.setattr("metarec_core.reporting.traces.stage_output", lambda *_: None)
    with pytest.raises(ModelError, match="no history behind"):
        similar_to_user(published.night.home, user, SimilarConfig())
