"""What tests in several folders need: shared data, a small dataset of one's own, free ports."""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from metarec_core.home import HOME_VARIABLE, Home

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

# The small set in the files of MovieLens 1M; tests know that the last users and items are cold.
N_WARM_USERS, N_COLD_USERS = 60, 24
N_WARM_ITEMS, N_COLD_ITEMS = 90, 30
GENRES = ("Action", "Comedy", "Drama")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the tools silent, and Prefect out of the developer's own home, from before import."""
    # Processes that test side by side have a Prefect each: its database knows one writer.
    process = os.environ.get("PYTEST_XDIST_WORKER", "main")
    variables = Home(config.cache.mkdir(f"metarec-home-{process}")).environment()
    del variables[HOME_VARIABLE]  # each test has one of its own
    for name, value in variables.items():
        os.environ.setdefault(name, value)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The shared benchmark data, or a skip that says why; a failure where it is required."""
    if SHARED.is_dir():
        return SHARED
    reason = f"no shared data at {SHARED}"
    if os.environ.get("METAREC_REQUIRE_SHARED") == "1":
        pytest.fail(f"{reason}, and METAREC_REQUIRE_SHARED=1 asks for it")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Finds a port that nobody listens on."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        return port

    return find


@dataclass(frozen=True)
class OwnDataset:
    """A team's own tables: a directory with a descriptor and CSV files."""

    root: Path

    @property
    def descriptor(self) -> Path:
        return self.root / "shop.yaml"

    def table(self, name: str) -> Path:
        return self.root / f"{name}.csv"

    def read(self, name: str) -> pl.DataFrame:
        return pl.read_csv(self.table(name), infer_schema=False)

    def write(self, name: str, frame: pl.DataFrame) -> None:
        frame.write_csv(self.table(name))


DESCRIPTOR = {
    "name": "shop",
    "title": "A small shop",
    "feedback": "explicit",
    "values": {"minimum": 1, "maximum": 5, "relevant_from": 4},
    "timestamp_unit": "seconds",
    "interactions": {
        "path": "interactions.csv",
        "columns": {
            "user_id": "customer",
            "item_id": "article",
            "value": "stars",
            "timestamp": "time",
        },
    },
    "users": {
        "path": "users.csv",
        "columns": {"user_id": "customer"},
        "features": {
            "age": {"column": "age", "kind": "numeric"},
            "club": {"column": "club", "kind": "categorical"},
        },
    },
    "items": {
        "path": "items.csv",
        "columns": {"item_id": "article", "title": "name"},
        "features": {"kinds": {"column": "kinds", "kind": "multi", "separator": "|"}},
    },
}


def make_dataset(root: Path, *, n_users: int = 220, n_items: int = 60, seed: int = 0) -> OwnDataset:
    """Customers whose club tells which kinds of articles they buy and like."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True)
    kinds = ["tea", "tools", "toys", "books"]
    kind_of = rng.integers(0, len(kinds), n_items)
    club_of = rng.integers(0, len(kinds), n_users)
    popularity = 1.0 / np.arange(1, n_items + 1)
    rows = []
    # The last two customers have bought nothing yet.
    for user in range(n_users - 2):
        weight = popularity * np.where(kind_of == club_of[user], 8.0, 1.0)
        bought = rng.choice(n_items, rng.integers(8, 25), replace=False, p=weight / weight.sum())
        stars = 3.0 + 1.3 * (kind_of[bought] == club_of[user]) + rng.normal(0, 0.7, len(bought))
        rows += [
            (f"c{user}", f"a{item}", int(np.clip(np.round(star), 1, 5)), 1_700_000_000 + index)
            for index, (item, star) in enumerate(zip(bought, stars, strict=True))
        ]
    dataset = OwnDataset(root)
    dataset.write(
        "interactions",
        pl.DataFrame(rows, schema=["customer", "article", "stars", "time"], orient="row"),
    )
    dataset.write(
        "users",
        pl.DataFrame(
            {
                "customer": [f"c{user}" for user in range(n_users)],
                "age": rng.integers(18, 80, n_users),
                "club": [kinds[club] for club in club_of],
            }
        ),
    )
    dataset.write(
        "items",
        pl.DataFrame(
            {
                "article": [f"a{item}" for item in range(n_items)],
                "name": [f"Article {item}" for item in range(n_items)],
                "kinds": [kinds[kind] for kind in kind_of],
            }
        ),
    )
    dataset.descriptor.write_text(yaml.safe_dump(DESCRIPTOR, sort_keys=False))
    return dataset


@pytest.fixture(scope="session")
def make_own_dataset() -> Callable[..., OwnDataset]:
    """Writes a fresh copy into a directory."""
    return make_dataset


@pytest.fixture
def own_dataset(tmp_path: Path) -> OwnDataset:
    """A fresh copy that a test may spoil."""
    return make_dataset(tmp_path / "shop")


def _write_ml_1m(place: Path) -> Path:
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
def small_ml_1m(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ``ml-1m``: 84 users, 120 films, published states and planted tastes."""
    place = tmp_path_factory.mktemp("data")
    _write_ml_1m(place / "ml-1m")
    return place


def _write_pair(place: Path) -> Path:
    """``ml-1m`` and ``ml-latest-small``: the same films, partly, and the same tastes."""
    rng = np.random.default_rng(6)
    titles = [f"Film {film} ({1960 + film % 40})" for film in range(80)]
    genre, quality = rng.integers(0, 3, 80), rng.normal(0.0, 0.5, 80)
    tables = {}
    for name, films, n_users in (("ml-1m", range(60), 70), ("ml-latest-small", range(20, 80), 60)):
        taste = rng.normal(0.0, 0.8, (n_users, 3))
        rows = [
            (user + 1, int(film) + 1, int(np.clip(round(mean + rng.normal(0.0, 0.7)), 1, 5)), 10**9)
            for user in range(n_users)
            for film in rng.choice(films, 30, replace=False)
            for mean in (3.9 + quality[film] + taste[user, genre[film]],)
        ]
        tables[name] = (films, n_users, rows)
        (place / name).mkdir(parents=True)
    films, n_users, rows = tables["ml-1m"]
    schema = ["user_id", "item_id", "rating", "timestamp"]
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(place / "ml-1m/ratings.parquet")
    users = [f"{user + 1}::{'MF'[user % 2]}::25::{user % 4}::9{user}" for user in range(n_users)]
    (place / "ml-1m/users.dat").write_text("\n".join(users) + "\n", encoding="utf-8")
    lines = [f"{film + 1}::{titles[film]}::{GENRES[genre[film]]}" for film in films]
    (place / "ml-1m/movies.dat").write_text("\n".join(lines) + "\n", encoding="utf-8")
    films, _, rows = tables["ml-latest-small"]
    schema = ["userId", "movieId", "rating", "timestamp"]
    pl.DataFrame(rows, schema=schema, orient="row").write_csv(place / "ml-latest-small/ratings.csv")
    pl.DataFrame(
        {
            "movieId": [film + 1 for film in films],
            "title": [titles[film] for film in films],
            "genres": [GENRES[genre[film]] for film in films],
        }
    ).write_csv(place / "ml-latest-small/movies.csv")
    return place


@pytest.fixture(scope="session")
def small_pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with two small sets of films that share 40 films, genres and tastes."""
    return _write_pair(tmp_path_factory.mktemp("pair"))
