"""The study of diversity, and the preset that is chosen by it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from metarec_core.ranking.diversity.frontier import FRONTIER_SCHEMA
from metarec_core.ranking.diversity.taste import liked_from
from metarec_core.serving.bundle import load_bundle
from tasks.diversity import FRONTIER, chosen_diversity, study_diversity
from tasks.night import Night
from tasks.recommend import recommend_users


def gentle_night(workshop: Any, pool: int) -> Night:
    """The night with the preset; its warnings are its own."""
    recommend = workshop.night.config.recommend.changed(
        {"diversity": {"method": "xquad", "preset": "gentle", "pool": pool}}
    )
    config = workshop.night.config.model_copy(update={"recommend": recommend})
    status = workshop.night.status.model_copy(update={"warnings": []})
    return replace(workshop.night, config=config, status=status)


def test_the_preset_is_chosen_by_what_validation_users_lose(workshop: Any) -> None:
    night = gentle_night(workshop, 30)
    ruling = workshop.enthrone(workshop.trained.path / "popularity", "popularity")
    study = study_diversity.fn(night, *workshop.data, ruling)
    figures = pl.read_parquet(study.path / FRONTIER)
    assert figures.schema == FRONTIER_SCHEMA
    assert figures.filter(metric="ndcg_at_10")["n_users"].min() > 10
    assert chosen_diversity(study).preset is None
    assert night.status.warnings == []


def test_without_a_validation_user_lists_stay_as_they_are_and_it_is_said(
    workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metarec_core.serving.tonight.STUDIED_USERS", 0)
    ruling = workshop.enthrone(workshop.trained.path / "popularity", "popularity")
    for reused in (False, True):
        night = gentle_night(workshop, 31)
        study = study_diversity.fn(night, *workshop.data, ruling)
        assert study.reused == reused
        chosen = chosen_diversity(study)
        assert (chosen.method, chosen.preset, chosen.strength) == ("xquad", None, 0.0)
        assert night.status.warnings == [
            "diversity: no validation user has a task; the preset gentle leaves lists as they are"
        ]


def test_lists_are_told_from_which_value_on_something_is_liked(
    workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The night stops where lists would be made: what they are to be like is known by then."""
    asked = []

    def spied(*_: Any, diversity: Any, **__: Any) -> None:
        asked.append(diversity.liked_from)
        raise LookupError

    monkeypatch.setattr("tasks.recommend.list_settings", spied)
    directory = workshop.trained.path / "popularity"
    ruling = workshop.enthrone(directory, "popularity")
    night = gentle_night(workshop, 29)
    study = study_diversity.fn(night, *workshop.data, ruling)
    with pytest.raises(LookupError):
        recommend_users.fn(night, *workshop.data, ruling, study)
    assert asked == [liked_from(load_bundle(directory).scale)]
