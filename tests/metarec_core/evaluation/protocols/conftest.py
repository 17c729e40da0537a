"""A small set in the files of MovieLens 1M, with published states and planted tastes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from metarec_core.config import BenchmarkConfig, CleaningConfig
from metarec_core.evaluation.protocols.corpus import Corpus, read_corpus

N_WARM_USERS, N_COLD_USERS = 60, 24
N_WARM_ITEMS, N_COLD_ITEMS = 90, 30
GENRES = ("Action", "Comedy", "Drama")


def write_ml_1m(place: Path) -> Path:
    """``ratings.parquet``, ``users.dat`` and ``movies_extrainfos.dat``; ids are not sequential."""
    rng = np.random.default_rng(5)
    n_users, n_items = N_WARM_USERS + N_COLD_USERS, N_WARM_ITEMS + N_COLD_ITEMS
    genre = rng.integers(0, 3, n_items)
    taste = rng.normal(0.0, 0.8, (n_users, 3))
    quality = rng.normal(0.0, 0.5, n_items)
    rows = []
    for user in range(n_users):
        known = rng.choice(N_WARM_ITEMS, 55, replace=False)
        new = N_WARM_ITEMS + rng.choice(N_COLD_ITEMS, 16, replace=False)
        for item in (*known, *new):
            mean = 3.9 + quality[item] + taste[user, genre[item]]
            rating = int(np.clip(round(mean + rng.normal(0.0, 0.7)), 1, 5))
            cold = (
                "user_" * (user >= N_WARM_USERS) + "and_" * (user >= N_WARM_USERS) + "item_"
                if item >= N_WARM_ITEMS
                else "user_" * (user >= N_WARM_USERS)
            )
            state = f"{cold}cold" if cold else "warm"
            rows.append((2 * user + 3, 3 * item + 2, rating, 10**9 + len(rows), state))
    schema = ["user_id", "item_id", "rating", "timestamp", "melu_state"]
    place.mkdir(parents=True, exist_ok=True)
    frame = pl.DataFrame(rows, schema=schema, orient="row").sample(
        fraction=1.0, shuffle=True, seed=1
    )
    frame.write_parquet(place / "ratings.parquet")
    users = [
        f"{2 * user + 3}::{'MF'[user % 2]}::{25}::{user % 4}::9{user}" for user in range(n_users)
    ]
    (place / "users.dat").write_text("\n".join(users) + "\n", encoding="utf-8")
    items = [
        f"{3 * item + 2}::Film {item}::{1960 + item % 40}::R::N/A::{GENRES[genre[item]]}::"
        f"Director {item % 7}::Writer {item % 5} (novel), Writer {item % 6}::"
        f"Actor {item % 9}, Actor {item % 8}::A plot of {GENRES[genre[item]]} and {item % 11}x::N/A"
        for item in range(n_items)
    ]
    (place / "movies_extrainfos.dat").write_text("\n".join(items) + "\n", encoding="utf-8")
    return place


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    scratch = tmp_path_factory.mktemp("ml-1m")
    root = write_ml_1m(scratch / "files")
    return read_corpus("ml-1m-content", root, scratch, CleaningConfig(threads=1))


@pytest.fixture(scope="session")
def config() -> BenchmarkConfig:
    return BenchmarkConfig(resamples=200)
