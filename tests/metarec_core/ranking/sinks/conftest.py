"""Lists in shards, and tables on disk that tests look into by a connection of their own."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import polars as pl
import pytest
import sqlalchemy as sa

from metarec_core.ranking.sinks.base import SINK_COLUMNS, Sink, Stamp
from metarec_core.ranking.sinks.database import DatabaseSink
from metarec_core.ranking.sinks.duckdb_table import DuckDBSink
from metarec_core.ranking.stream import write_stream
from metarec_core.schema import RECOMMENDATIONS_SCHEMA

MONDAY, TUESDAY = date(2026, 3, 2), date(2026, 3, 3)
SHARD_USERS = 4


def lists(day: date, n_users: int, k: int = 3, score: float = 1.0) -> pl.DataFrame:
    """Lists of the contract, with text that has to be quoted."""
    rows = [
        {
            "run_date": day,
            "user_id": f"u'{user}",
            "rank": rank,
            "item_id": f"i{(user + rank) % 7}",
            "title": 'A "title"; DROP TABLE recommendations --',
            "score": score / rank,
            "rating": None if user % 2 else 4.25,
            "sd": None if user % 2 else 0.5,
            "p_relevant": 0.1 * rank,
            "segment": "1-4",
            "support_size": user,
            "reasons": [
                {"kind": "item", "share": 0.5},
                {"kind": "support", "item_id": "ü", "title": "}x{", "value": 3.0, "share": 0.25},
            ][: user % 3],
            "rule_flags": ["pinned"] * (rank == 1),
        }
        for user in range(n_users)
        for rank in range(1, k + 1)
    ]
    return pl.DataFrame(rows, schema=RECOMMENDATIONS_SCHEMA)


def stamp(day: date = MONDAY, run: str = "run 1") -> Stamp:
    return Stamp(run_date=day, run_id=run, model_version="7", code_version="0.1.0+abc")


def write_lists(directory: Path, frame: pl.DataFrame) -> list[Path]:
    """Shards of a few users each; without rows one shard that has the columns."""
    directory.mkdir(parents=True, exist_ok=True)
    users = frame["user_id"].unique(maintain_order=True).to_list()
    paths = []
    for start in range(0, max(len(users), 1), SHARD_USERS):
        part = frame.filter(pl.col("user_id").is_in(users[start : start + SHARD_USERS]))
        paths.append(directory / f"shard-{start:05d}.parquet")
        write_stream(paths[-1], [part])
    return paths


@dataclass(frozen=True)
class Table:
    """A sink, and how to look into its table without it."""

    sink: Sink
    rows: Callable[[], list[dict[str, Any]]]
    path: Path

    def put(self, shards: list[Path], of: Stamp) -> int:
        with self.sink.replacing(shards, of) as rows:
            pass
        return rows


def in_duckdb(directory: Path) -> Table:
    path = directory / "lists.duckdb"

    def rows() -> list[dict[str, Any]]:
        if not path.exists():
            return []
        with duckdb.connect(str(path), read_only=True) as connection:
            if not connection.execute("SHOW TABLES").fetchall():
                return []
            return connection.table("recommendations").pl().to_dicts()

    return Table(DuckDBSink(path, "recommendations"), rows, path)


def in_sqlite(directory: Path) -> Table:
    path = directory / "lists.sqlite"

    def rows() -> list[dict[str, Any]]:
        with sqlite3.connect(path) as connection:
            connection.row_factory = sqlite3.Row
            if not connection.execute("SELECT * FROM sqlite_master").fetchall():
                return []
            found = connection.execute("SELECT * FROM recommendations").fetchall()
        return [
            {
                **dict(row),
                "run_date": date.fromisoformat(row["run_date"]),
                "reasons": json.loads(row["reasons"]),
                "rule_flags": json.loads(row["rule_flags"]),
            }
            for row in found
        ]

    url = sa.make_url(f"sqlite:///{path}?timeout=0.2")
    return Table(DatabaseSink(url, "recommendations", batch_rows=5), rows, path)


TABLES = {"duckdb": in_duckdb, "sqlite": in_sqlite}


@pytest.fixture(params=list(TABLES))
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Table:
    """A table of each kind."""
    return TABLES[request.param](tmp_path)


def expected(frame: pl.DataFrame, of: Stamp) -> list[dict[str, Any]]:
    """What the table is to hold of these lists."""
    origin = {
        "run_id": of.run_id,
        "model_version": of.model_version,
        "code_version": of.code_version,
    }
    rows = [{**row, **origin} for row in frame.to_dicts()]
    assert all(tuple(row) == SINK_COLUMNS for row in rows)
    return rows


def ordered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["run_date"], row["user_id"], row["rank"]))


@pytest.fixture(scope="session")
def world() -> SimpleNamespace:
    """The functions above, for tests."""
    return SimpleNamespace(
        lists=lists,
        stamp=stamp,
        write_lists=write_lists,
        expected=expected,
        ordered=ordered,
        tables=TABLES,
        monday=MONDAY,
        tuesday=TUESDAY,
    )
