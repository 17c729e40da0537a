"""Published lists of one user, found, missing or empty."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from metarec_core.episodes.types import ValueScale
from metarec_core.errors import DatasetError
from metarec_core.home import Home
from metarec_core.ranking.publication import LISTS
from metarec_core.ranking.short_lists import SHORT_LISTS, SHORT_LISTS_SCHEMA
from metarec_core.reporting.lists import read_list
from metarec_core.schema import Feedback

STARS = ValueScale(Feedback.EXPLICIT, 1.0, 5.0, 4.0)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Lists of two users in two shards; a third has none."""
    home = Home(tmp_path)
    place = home.lists / "run_date=2026-11-24"
    (place / LISTS).mkdir(parents=True)
    for shard, user in enumerate(["u1", "u2"]):
        frame = pl.DataFrame({"user_id": [user] * 2, "rank": [2, 1], "item_id": ["b", "a"]})
        frame.write_parquet(place / LISTS / f"shard-{shard:05d}.parquet")
    nobody = [("u3", 0, "short: no open item, as all are consumed"), ("u4", 0, None)]
    frame = pl.DataFrame(nobody, schema=SHORT_LISTS_SCHEMA, orient="row")
    frame.write_parquet(place / SHORT_LISTS)
    (place / "manifest.json").write_text(json.dumps({"facts": {"scale": asdict(STARS)}}))
    (home.lists / "latest").symlink_to(place)
    return home


def test_a_list_comes_with_its_publication(home: Home) -> None:
    for user in ("u1", "u2"):
        found = read_list(home, user)
        assert found.rows["item_id"].to_list() == ["a", "b"]
        assert found.scale == STARS
        assert found.directory == home.lists / "latest"
    assert read_list(home, "u1", date(2026, 11, 24)).directory.name == "run_date=2026-11-24"


def test_a_user_without_entries_is_told_why(home: Home) -> None:
    with pytest.raises(DatasetError, match=r"an empty list \(short: no open item, as all are"):
        read_list(home, "u3")
    with pytest.raises(DatasetError, match=r"an empty list \(short: no open item\)"):
        read_list(home, "u4")


def test_strangers_and_other_dates_are_named(home: Home) -> None:
    with pytest.raises(DatasetError, match="one of its 2 users, such as u1, u2"):
        read_list(home, "u5")
    with pytest.raises(DatasetError, match="one of the run dates 2026-11-24"):
        read_list(home, "u1", date(2026, 11, 25))
