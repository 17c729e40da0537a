"""Lists: of tonight's items, judged, published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from metarec_core.episodes.store import load_tasks
from metarec_core.ranking.publication import LISTS
from tasks.findings import read_report
from tasks.recommend import recommend_users


def test_items_that_are_gone_are_not_recommended(workshop: Any, tmp_path: Path) -> None:
    """The champion knows them, and by its figures they are the best."""
    items = load_tasks(workshop.episodes.path, workshop.features.path).catalogue
    gone = [0, 1, 2, 3]
    known = items.with_row_index("row").with_columns(
        item_id=pl.when(pl.col("row").is_in(gone))
        .then(pl.format("gone{}", "row"))
        .otherwise("item_id")
    )
    directory = workshop.bundle("popularity", tmp_path, catalogue=known.drop("row"))
    ruling = workshop.enthrone(directory, "popularity")
    output = recommend_users.fn(workshop.night, *workshop.data, ruling)
    lists = pl.read_parquet(output.path / LISTS)
    assert set(lists["item_id"]) <= set(items["item_id"][4:])
    assert lists["user_id"].n_unique() == 220
    assert output.facts["candidates"] == 56
    assert read_report(output).success


def test_the_report_and_the_manifest_lie_beside_the_lists(workshop: Any) -> None:
    ruling = workshop.enthrone(workshop.trained.path / "popularity", "popularity")
    first = recommend_users.fn(workshop.night, *workshop.data, ruling)
    published = workshop.night.home.lists / "latest"
    manifest = json.loads((published / "manifest.json").read_text())
    assert set(manifest["files"]) == {LISTS, "report.json"}
    assert manifest["model"]["dataset"] == "shop"
    assert "prefect_flow_run_id" in manifest
    # Where the files lie in the registry is no matter of the lists.
    elsewhere = ruling.model_copy(update={"version": ruling.version + 1000})
    again = recommend_users.fn(workshop.night, *workshop.data, elsewhere)
    assert (again.key, again.reused) == (first.key, True)
    assert (published / LISTS).read_bytes() == (first.path / LISTS).read_bytes()


def test_other_expectations_judge_again(workshop: Any, monkeypatch: Any) -> None:
    ruling = workshop.enthrone(workshop.trained.path / "popularity", "popularity")
    first = recommend_users.fn(workshop.night, *workshop.data, ruling)
    monkeypatch.setattr("tasks.recommend.fingerprint", lambda: "stricter")
    again = recommend_users.fn(workshop.night, *workshop.data, ruling)
    assert again.key != first.key
    assert not again.reused
