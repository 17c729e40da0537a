"""Lists: of tonight's items, judged, published."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from metarec_core.episodes.store import load_tasks
from metarec_core.errors import ConfigError, ServiceError
from metarec_core.ranking.publication import LISTS
from metarec_core.ranking.short_lists import SHORT_LISTS
from metarec_core.storage import StageOutput, hash_directory
from tasks.diversity import study_diversity
from tasks.findings import read_report
from tasks.night import Night
from tasks.recommend import recommend_users
from tasks.tracking import ChampionRef


def recommend(workshop: Any, night: Night, ruling: ChampionRef) -> StageOutput:
    """What the flow does once there is a champion."""
    study = study_diversity.fn(night, *workshop.data, ruling)
    return recommend_users.fn(night, *workshop.data, ruling, study)


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
    output = recommend(workshop, workshop.night, ruling)
    lists = pl.read_parquet(output.path / LISTS)
    assert set(lists["item_id"]) <= set(items["item_id"][4:])
    assert lists["user_id"].n_unique() == 220
    assert output.facts["candidates"] == 56
    assert read_report(output).success


def test_the_report_and_the_manifest_lie_beside_the_lists(workshop: Any) -> None:
    ruling = workshop.enthrone(workshop.trained.path / "popularity", "popularity")
    first = recommend(workshop, workshop.night, ruling)
    published = workshop.night.home.lists / "latest"
    manifest = json.loads((published / "manifest.json").read_text())
    assert set(manifest["files"]) == {f"{LISTS}/shard-00000.parquet", "report.json"}
    assert manifest["model"]["dataset"] == "shop"
    assert "prefect_flow_run_id" in manifest
    # Where the files lie in the registry is no matter of the lists.
    elsewhere = ruling.model_copy(update={"version": ruling.version + 1000})
    again = recommend(workshop, workshop.night, elsewhere)
    assert (again.key, again.reused) == (first.key, True)
    assert hash_directory(published / LISTS) == hash_directory(first.path / LISTS)


def test_other_expectations_judge_again(workshop: Any, monkeypatch: Any) -> None:
    ruling = workshop.enthrone(workshop.trained.path / "popularity", "popularity")
    first = recommend(workshop, workshop.night, ruling)
    monkeypatch.setattr("tasks.recommend.fingerprint", lambda: "stricter")
    again = recommend(workshop, workshop.night, ruling)
    assert again.key != first.key
    assert not again.reused


def in_tables(night: Night, monkeypatch: Any, place: Path, shard_users: int = 50) -> Night:
    """The night, with a DuckDB file and a SQLite database to fill."""
    monkeypatch.setenv("SHOP_DATABASE", f"sqlite:///{place}/lists.sqlite?timeout=0.2")
    changes = {
        "shard_users": shard_users,
        "sinks": {
            "duckdb": {"path": str(place / "lists.duckdb")},
            "database": {"url_variable": "SHOP_DATABASE"},
        },
    }
    return replace(night, config=night.config.changed({"recommend": changes}))


def test_databases_hold_what_the_files_hold(
    workshop: Any, monkeypatch: Any, tmp_path: Path
) -> None:
    ruling = workshop.enthrone(workshop.trained.path / "popularity", "popularity")
    night = in_tables(workshop.night, monkeypatch, tmp_path)
    output = recommend(workshop, night, ruling)
    shards = sorted((output.path / LISTS).iterdir())
    assert [shard.name for shard in shards] == [f"shard-{n:05d}.parquet" for n in range(5)]
    assert output.facts["shards"] == 5
    lists = pl.read_parquet(shards)
    with duckdb.connect(str(tmp_path / "lists.duckdb"), read_only=True) as connection:
        held = connection.table("recommendations").order("user_id, rank").pl()
    assert held.select(lists.columns).equals(lists.sort("user_id", "rank"))
    assert set(held["model_version"]) == {str(ruling.version)}
    assert set(held["run_id"]) == {night.run_id}
    with sqlite3.connect(tmp_path / "lists.sqlite") as connection:
        counts = connection.execute(
            "SELECT count(*), count(DISTINCT user_id), min(run_date) FROM recommendations"
        ).fetchall()
    assert counts == [(len(lists), 220, "2026-03-02")]


def test_a_database_that_is_away_publishes_nothing_and_costs_no_second_ranking(
    workshop: Any, monkeypatch: Any, tmp_path: Path
) -> None:
    ruling = workshop.enthrone(workshop.trained.path / "popularity", "popularity")
    # Another cut of the users: another stage, which nobody has built yet.
    night = in_tables(workshop.night, monkeypatch, tmp_path, shard_users=70)
    latest = night.home.lists / "latest" / "manifest.json"
    recommend(workshop, workshop.night, ruling)
    before = latest.read_text()
    with sqlite3.connect(tmp_path / "lists.sqlite") as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ServiceError, match="database is locked"):
            recommend(workshop, night, ruling)
        assert latest.read_text() == before
        assert night.status.stages[-1].state == "failed"
        with duckdb.connect(str(tmp_path / "lists.duckdb"), read_only=True) as connection:
            assert connection.execute("SHOW TABLES").fetchall() == []
    again = recommend(workshop, night, ruling)
    assert again.reused
    assert latest.read_text() != before


def test_an_address_that_is_missing_is_found_out_before_the_work(
    workshop: Any, monkeypatch: Any, tmp_path: Path
) -> None:
    ruling = workshop.enthrone(workshop.trained.path / "popularity", "popularity")
    night = in_tables(workshop.night, monkeypatch, tmp_path)
    monkeypatch.delenv("SHOP_DATABASE")
    monkeypatch.setattr("tasks.recommend.open_tonight", None)
    with pytest.raises(ConfigError, match="environment variable SHOP_DATABASE"):
        recommend(workshop, night, ruling)


def test_users_for_whom_rules_leave_nothing_are_named_and_excused(
    workshop: Any, tmp_path: Path
) -> None:
    seen = pl.read_parquet(workshop.cleaned.path / "interactions.parquet")
    of = {user: set(seen.filter(pl.col("user_id") == user)["item_id"]) for user in ("c1", "c2")}
    consumed = min(of["c1"])
    fresh = min({f"a{number}" for number in range(60)} - of["c2"])
    (tmp_path / "rules.yaml").write_text("table: rules.csv\n")
    (tmp_path / "rules.csv").write_text(
        f"rule,item_id,user_id\nallow,{consumed},c1\nallow,{fresh},c2\n"
    )
    ruling = workshop.enthrone(workshop.trained.path / "popularity", "popularity")
    config = workshop.night.config.changed({"recommend": {"rules": str(tmp_path / "rules.yaml")}})
    night = replace(workshop.night, config=config)
    output = recommend(workshop, night, ruling)
    lists = pl.read_parquet(output.path / LISTS)
    assert "c1" not in set(lists["user_id"])
    assert lists.filter(pl.col("user_id") == "c2").select("item_id", "rule_flags").rows() == [
        (fresh, ["short: only 1 open item"])
    ]
    assert output.facts["without_list"] == 1
    published = night.home.lists / "latest" / SHORT_LISTS
    assert pl.read_parquet(published).rows() == [("c1", 0, "short: no open item")]
    assert read_report(output).success
