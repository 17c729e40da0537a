"""Published lists appraised, beside those of the night before."""

from __future__ import annotations

import shutil
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from metarec_core.ranking.publication import LISTS, shards_in
from metarec_core.serving import appraisal
from tasks.appraise import appraise_lists
from tasks.diversity import study_diversity
from tasks.recommend import recommend_users


def test_lists_that_stayed_the_same_are_called_so_whoever_came_or_went(
    workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few of many users are looked at, and each night's draw is another."""
    monkeypatch.setattr(appraisal, "MOST_USERS", 3)
    night = workshop.night
    ruling = workshop.enthrone(workshop.trained.path / "bias", "bias")
    study = study_diversity.fn(night, *workshop.data, ruling)
    lists = recommend_users.fn(night, *workshop.data, ruling, study)
    tonight = (night.home.lists / f"run_date={night.run_date}").resolve()
    before = night.home.lists / f"run_date={night.run_date - timedelta(days=1)}"
    shutil.copytree(tonight, before)
    try:
        shards = shards_in(before / LISTS)
        former = pl.concat(pl.read_parquet(shard) for shard in shards)
        first = former["user_id"].min()
        for shard in shards:
            rows = pl.read_parquet(shard)
            rows.filter(pl.col("user_id") != first).write_parquet(shard)
        output = appraise_lists.fn(
            night, workshop.cleaned, workshop.features, workshop.episodes, ruling, lists
        )
    finally:
        shutil.rmtree(before)
    assert output.facts["explanations"]["entries_in_both"] == 1.0
