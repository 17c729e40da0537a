"""Raw tables as the ingest stage writes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from metarec_core.cleaning.clean import clean_tables
from metarec_core.config import CleaningConfig
from metarec_core.ingest.descriptor import DatasetDescriptor
from metarec_core.schema import INTERACTIONS_SCHEMA
from metarec_core.storage import StageFacts

USERS = pl.Schema(
    {"user_id": pl.String, "source_row": pl.Int64, "age": pl.Float64, "job": pl.String}
)
ITEMS = pl.Schema(
    {
        "item_id": pl.String,
        "title": pl.String,
        "source_row": pl.Int64,
        "tags": pl.List(pl.String),
    }
)


@pytest.fixture
def descriptor() -> DatasetDescriptor:
    """Ratings from 1 to 5, users with age and job, items with tags."""
    return DatasetDescriptor.model_validate(
        {
            "name": "small",
            "feedback": "explicit",
            "values": {"minimum": 1, "maximum": 5, "relevant_from": 4},
            "interactions": {
                "path": "r",
                "columns": {"user_id": "u", "item_id": "i", "value": "r", "timestamp": "t"},
            },
            "users": {
                "path": "u",
                "columns": {"user_id": "u"},
                "features": {
                    "age": {"column": "a", "kind": "numeric"},
                    "job": {"column": "j", "kind": "categorical"},
                },
            },
            "items": {
                "path": "i",
                "columns": {"item_id": "i", "title": "t"},
                "features": {"tags": {"column": "g", "kind": "multi"}},
            },
        }
    )


@pytest.fixture
def clean(tmp_path: Path, descriptor: DatasetDescriptor) -> Callable[..., StageFacts]:
    """Write rows (without ``source_row`` for interactions) and clean them into ``out``."""

    def run(
        interactions: Sequence[tuple[Any, ...]],
        users: Sequence[tuple[Any, ...]] | None = None,
        items: Sequence[tuple[Any, ...]] | None = None,
        out: str = "out",
        **settings: Any,
    ) -> StageFacts:
        raw = tmp_path / "raw"
        raw.mkdir(exist_ok=True)
        rows = [(*row, place) for place, row in enumerate(interactions, start=1)]
        frame = pl.DataFrame(rows, schema=INTERACTIONS_SCHEMA, orient="row")
        frame.write_parquet(raw / "interactions.parquet")
        for name, schema, given in (("users", USERS, users), ("items", ITEMS, items)):
            (raw / f"{name}.parquet").unlink(missing_ok=True)
            if given is not None:
                side = pl.DataFrame(given, schema=schema, orient="row")
                side.write_parquet(raw / f"{name}.parquet")
        target = tmp_path / out
        target.mkdir(exist_ok=True)
        config = CleaningConfig.model_validate({"memory_limit": "500MB", "threads": 1} | settings)
        return clean_tables(raw, target, descriptor=descriptor, config=config)

    return run
