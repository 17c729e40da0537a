"""The benchmark of a large night, on a small one."""

import json

import numpy as np
import polars as pl
import pytest

from benchmarks import _factors as factors
from benchmarks import recommend_scale
from metarec_core.episodes.types import InteractionMatrix, TaskData


@pytest.fixture
def small(monkeypatch):
    """An iALS on sixty planted users instead of ML-1M."""
    rng = np.random.default_rng(0)
    rows = [np.flatnonzero(rng.random(40) < 0.3) for _ in range(60)]
    counts = [len(row) for row in rows]
    matrix = InteractionMatrix(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.concatenate(rows).astype(np.int64),
        np.full(sum(counts), 5, dtype=np.float32),
    )
    nothing = [np.zeros((n, 0), dtype=np.float32) for n in (60, 40)]
    data = TaskData(matrix, *nothing, factors.SCALE)
    monkeypatch.setattr(factors, "movielens", lambda root: data)
    monkeypatch.setattr(recommend_scale, "SHARD_USERS", 100)
    monkeypatch.setattr(recommend_scale, "K", 5)


def run(capsys, *more):
    recommend_scale.main(["--users", "400", "--items", "500", "--json", *more])
    return json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]


def test_three_sizes_and_what_reasons_add(small, capsys):
    *sizes, explained = run(capsys)
    assert [row["rows"] for row in sizes] == [5 * users for users in (40, 120, 400)]
    assert all(row["peak_gib_over_inputs"] < 1.0 for row in sizes)
    assert explained["reasons"]
    assert explained["added_by_reasons"] > -1.0


def test_finished_shards_are_kept_and_the_lists_are_the_same(small, capsys, tmp_path):
    first = run(capsys, "--out", str(tmp_path))
    lost = tmp_path / "lists-400" / "shard-00002.parquet"
    lost.write_bytes(lost.read_bytes()[:100])
    again = run(capsys, "--out", str(tmp_path))
    assert [row["shards_found"] for row in again[:3]] == [2, 2, 3]
    assert [row["digest"] for row in again] == [row["digest"] for row in first]
    lists = pl.read_parquet(tmp_path / "lists-400" / "*.parquet")
    assert lists["user_id"].n_unique() == 400
    assert (lists.group_by("user_id").len()["len"] == 5).all()


def test_histories_are_sorted_and_name_no_item_twice():
    matrix = recommend_scale._histories(50, 100, np.random.default_rng(1))
    for user in range(50):
        items = matrix.items[matrix.indptr[user] : matrix.indptr[user + 1]]
        assert (np.diff(items) > 0).all()
        assert 0 <= items.min() <= items.max() < 100
