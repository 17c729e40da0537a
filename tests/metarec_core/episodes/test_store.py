"""Tasks on disk: what is written is read again, times and order of cutting included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from metarec_core.config import EpisodesConfig
from metarec_core.episodes.split import Split
from metarec_core.episodes.store import Tasks, build_episodes, load_tasks
from metarec_core.episodes.types import ValueScale
from metarec_core.errors import ValidationError
from metarec_core.schema import Columns, Feedback

SCALE = ValueScale(Feedback.EXPLICIT, 1.0, 5.0, 4.0)
N_USERS, N_ITEMS = 12, 8


def stored(root: Path, *, order: str, timed: bool = True) -> tuple[Tasks, pl.DataFrame]:
    rng = np.random.default_rng(0)
    pairs = [(user, item) for user in range(N_USERS) for item in rng.permutation(N_ITEMS)[:6]]
    frame = pl.DataFrame(
        {
            Columns.USER: [f"u{user:02}" for user, _ in pairs],
            Columns.ITEM: [f"i{item}" for _, item in pairs],
            Columns.VALUE: rng.integers(1, 6, len(pairs)).astype(np.float64),
            Columns.TIME: rng.permutation(len(pairs)) * 86_400 if timed else [None] * len(pairs),
        },
        schema_overrides={Columns.TIME: pl.Int64},
    )
    features, episodes = root / "features", root / "episodes"
    features.mkdir()
    episodes.mkdir()
    frame.write_parquet(root / "interactions.parquet")
    parts = np.array([Split.TRAIN, Split.VALIDATION, Split.TEST] * (N_USERS // 3), dtype=np.int8)
    users = pl.DataFrame({Columns.USER: [f"u{n:02}" for n in range(N_USERS)], "split": parts})
    users.write_parquet(features / "users.parquet")
    items = {Columns.ITEM: [f"i{n}" for n in range(N_ITEMS)], Columns.TITLE: ["x"] * N_ITEMS}
    pl.DataFrame(items).write_parquet(features / "items.parquet")
    for name, rows in (("user", N_USERS), ("item", N_ITEMS)):
        empty = {"features": np.zeros((rows, 0), dtype=np.float32)}
        save_file(empty, features / f"{name}_features.safetensors")
    config = EpisodesConfig(min_tasks=2, order=order)  # type: ignore[arg-type]
    build_episodes(root, features, episodes, scale=SCALE, config=config)
    return load_tasks(episodes, features), frame


@pytest.mark.parametrize("order", ["random", "time"])
def test_interactions_are_read_as_they_were_with_their_times(tmp_path: Path, order: str) -> None:
    tasks, frame = stored(tmp_path, order=order)
    matrix = tasks.data.interactions
    assert matrix.times is not None
    rows = np.repeat(np.arange(N_USERS), matrix.counts())
    read = sorted(zip(rows, matrix.items, matrix.values, matrix.times, strict=True))
    written = sorted(
        (int(user[1:]), int(item[1:]), value, time) for user, item, value, time in frame.iter_rows()
    )
    assert read == written
    assert tasks.data.by_time == (order == "time")
    train = tasks.part(Split.TRAIN)
    assert train.by_time == (order == "time")
    assert set(train.interactions.times.tolist()) < set(matrix.times.tolist())


def test_without_times_tasks_are_cut_at_random_or_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    tasks, _ = stored(tmp_path / "a", order="random", timed=False)
    assert tasks.data.interactions.times is None
    (tmp_path / "b").mkdir()
    with pytest.raises(ValidationError, match=r"episodes\.order.*without times.*descriptor"):
        stored(tmp_path / "b", order="time", timed=False)
