"""Datasets written on the spot, and the real ones that lie beside the repository."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metarec_core.config import CleaningConfig, ValidationConfig
from metarec_core.ingest.descriptor import DatasetDescriptor
from metarec_core.ingest.read import ingest_tables
from metarec_core.storage import StageFacts

SHARED = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture
def shared() -> Path:
    """Real public datasets, read where they are."""
    if not SHARED.is_dir() and os.environ.get("METAREC_REQUIRE_SHARED") != "1":
        pytest.skip(f"no real datasets at {SHARED}")
    return SHARED


def describe(**changes: Any) -> DatasetDescriptor:
    """A small explicit dataset with all three sources; top-level fields can be replaced."""
    tree: dict[str, Any] = {
        "name": "small",
        "feedback": "explicit",
        "values": {"minimum": 1, "maximum": 5, "relevant_from": 4},
        "interactions": {
            "path": "ratings.csv",
            "columns": {"user_id": "u", "item_id": "i", "value": "r", "timestamp": "t"},
        },
    }
    return DatasetDescriptor.model_validate(tree | changes)


@pytest.fixture
def small() -> Callable[..., DatasetDescriptor]:
    return describe


@pytest.fixture
def ingest(tmp_path: Path) -> Callable[..., StageFacts]:
    """Write the files (text, or bytes), ingest them into ``tmp_path / "out"``."""

    def run(
        descriptor: DatasetDescriptor, root: Path | None = None, **files: str | bytes
    ) -> StageFacts:
        if root is None:
            root = tmp_path / "data"
            root.mkdir(exist_ok=True)
        share = float(files.pop("share", 0.0))
        named = int(files.pop("named", 20))
        for name, content in files.items():
            path = root / f"{name}.csv"
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        out = tmp_path / "out"
        out.mkdir(exist_ok=True)
        return ingest_tables(
            descriptor,
            root,
            out,
            validation=ValidationConfig(max_unparsable_fraction=share, max_named_rows=named),
            cleaning=CleaningConfig(memory_limit="500MB", threads=1),
        )

    return run
