"""Users without a list are told apart: those whom rules leave nothing, and those who were lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metarec_core.episodes.types import IntArray
from metarec_core.ranking.short_lists import (
    NOTHING_OPEN,
    SHORT_LISTS_SCHEMA,
    users_without_list,
)
from metarec_core.ranking.stream import write_stream


@settings(max_examples=30, deadline=None)
@given(
    entries=st.lists(st.integers(0, 3), max_size=12),
    n_open=st.lists(st.integers(0, 2), min_size=12, max_size=12),
    shard_users=st.integers(1, 5),
    ruled=st.booleans(),
)
def test_everybody_without_an_entry_is_named_once(
    entries: list[int],
    n_open: list[int],
    shard_users: int,
    ruled: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    users = [f"u{12 - user}" for user in range(len(entries))]
    place = tmp_path_factory.mktemp("shards")
    shards: list[Path] = []
    for start in range(0, max(len(users), 1), shard_users):
        shards.append(place / f"{start:05d}.parquet")
        rows = [
            user
            for user, count in zip(
                users[start:], entries[start : start + shard_users], strict=False
            )
            for _ in range(count)
        ]
        write_stream(shards[-1], [pl.DataFrame({"user_id": rows}, schema={"user_id": pl.String})])

    def open_counts(rows: IntArray) -> IntArray:
        return np.array(n_open)[rows]

    ids = pl.Series(users, dtype=pl.String)
    got = users_without_list(shards, ids, open_counts if ruled else None)
    assert got.schema == SHORT_LISTS_SCHEMA
    assert got.rows() == [
        (user, 0, NOTHING_OPEN if ruled and n_open[row] == 0 else None)
        for row, user in enumerate(users)
        if entries[row] == 0
    ]
