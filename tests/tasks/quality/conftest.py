"""Healthy tables of every stage, and a judge that writes and reads them like a night."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from metarec_core.episodes.types import ValueScale
from metarec_core.home import Home
from metarec_core.schema import INTERACTIONS_SCHEMA, RECOMMENDATIONS_SCHEMA, Feedback
from tasks.quality import (
    Minimums,
    Options,
    QualityReport,
    validate_recommendations,
    validate_tables,
)

AS_OF = 1_000_000_000.0
"""Seconds since the epoch."""
K = 3
RUN_DATE = date(2026, 11, 24)
USERS, ITEMS = 40, 9
SHORT = (2, 3)
"""Numbers of the users who have seen all but two items of the catalogue: lists shorter than K."""
ROWS_APART = 10
"""Source rows of user n start at n times this."""

Tables = dict[str, pl.DataFrame]


def seen(user: int) -> int:
    """How many items a user has interactions with."""
    return 7 if user in SHORT else 4


def interactions() -> pl.DataFrame:
    """A few interactions a user, all different, the newest an hour old."""
    return pl.DataFrame(
        [
            (
                f"u{user}",
                f"i{(user + step) % ITEMS}",
                1.0 + (user + step) % 5,
                int(AS_OF) - 3600 - 60 * (ROWS_APART * user + step),
                ROWS_APART * user + step,
            )
            for user in range(USERS)
            for step in range(seen(user))
        ],
        schema=INTERACTIONS_SCHEMA,
        orient="row",
    )


def side_table(key: str, prefix: str, size: int) -> pl.DataFrame:
    """One row a user or an item."""
    return pl.DataFrame(
        {
            key: [f"{prefix}{number}" for number in range(size)],
            "title": [f"Number {number}" for number in range(size)],
            "source_row": list(range(1, size + 1)),
        }
    )


def recommendations() -> pl.DataFrame:
    """K entries a user, out of the items the user has not seen."""
    rows = [
        {
            "run_date": RUN_DATE,
            "user_id": f"u{user}",
            "rank": rank,
            "item_id": item,
            "title": "A title",
            "score": 5.0 - rank,
            "rating": 4.0,
            "sd": 0.5,
            "segment": "1-4",
            "support_size": seen(user),
            "p_relevant": 0.25,
            "reasons": [
                {"kind": "item", "share": 1.5},
                {"kind": "support", "item_id": "i1", "share": 3.5 - rank},
                {"kind": "deletion", "item_id": "i1", "share": 9.0},
                {"kind": "feature", "feature": "genre", "share": 9.0},
                {"kind": "counterfactual", "item_id": "i1", "share": 9.0, "rank": 14},
            ],
            "rule_flags": ["short: only 2 open items"] * (user in SHORT and rank == 2),
        }
        for user in range(USERS)
        for rank, item in enumerate(unseen(user)[:K], start=1)
    ]
    return pl.DataFrame(rows, schema=RECOMMENDATIONS_SCHEMA)


def unseen(user: int) -> list[str]:
    """Items that the model and the tables hold and a user has no interaction with."""
    return [
        f"i{(user + step) % ITEMS}"
        for step in range(seen(user), ITEMS)
        if (user + step) % ITEMS < ITEMS - 1
    ]


def healthy_tables() -> Tables:
    """Tables that no suite finds fault with."""
    return {
        "interactions": interactions(),
        "users": side_table("user_id", "u", USERS),
        "items": side_table("item_id", "i", ITEMS),
        # The model is older than the tables: it knows an item that is gone, and not the last one.
        "catalogue": pl.DataFrame(
            {"item_id": [*(f"i{item}" for item in range(ITEMS - 1)), "gone"]}
        ),
        "recommendations": recommendations(),
    }


def judge_tables(directory: Path, kind: str, tables: Tables, **changes: Any) -> QualityReport:
    """The report on one kind of tables: ``raw``, ``clean`` or ``recommendations``."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, frame in tables.items():
        path = directory / f"{name}.parquet"
        if name == "recommendations":
            # In parts, as nights publish them.
            path.mkdir(exist_ok=True)
            half = len(frame) // 2
            frame.head(half).write_parquet(path / "shard-00000.parquet")
            frame.tail(-half).write_parquet(path / "shard-00001.parquet")
        else:
            frame.write_parquet(path)
    settings: dict[str, Any] = {
        "home": Home(directory / "home"),
        "options": Options(data_docs=False, max_named_rows=200, threads=1),
    }
    if kind == "recommendations":
        settings |= {
            "clean": directory,
            "catalogue": directory / "catalogue.parquet",
            "k": K,
            "run_date": RUN_DATE,
            **changes,
        }
        return validate_recommendations(directory / "recommendations.parquet", **settings)
    settings |= {
        "scale": ValueScale(Feedback.EXPLICIT, 1.0, 5.0, 4.0),
        "as_of": AS_OF,
        "max_age_days": 1.0,
        "minimums": Minimums(rows=2 * USERS, users=USERS - 3, items=ITEMS),
        **changes,
    }
    return validate_tables(directory, kind, **settings)


@pytest.fixture
def healthy() -> Tables:
    """Tables that no suite finds fault with."""
    return healthy_tables()


@pytest.fixture
def judged(tmp_path: Path) -> Callable[..., QualityReport]:
    """``judged(kind, tables, **changes)`` with a directory and a home of its own."""
    return lambda kind, tables, **changes: judge_tables(tmp_path, kind, tables, **changes)


@pytest.fixture(scope="session")
def judge_in(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., QualityReport]:
    """The same for fixtures of a whole session; each call has a directory of its own."""
    return lambda kind, tables, **changes: judge_tables(
        tmp_path_factory.mktemp("judged"), kind, tables, **changes
    )


@pytest.fixture(scope="session")
def pristine() -> Callable[[], Tables]:
    """Builds healthy tables, for fixtures of a whole session."""
    return healthy_tables
