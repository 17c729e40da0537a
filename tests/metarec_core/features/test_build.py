from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from metarec_core.config import EpisodesConfig
from metarec_core.episodes.split import Split, split_users
from metarec_core.features.build import build_features
from metarec_core.features.encoder import FeatureEncoder
from metarec_core.ingest.descriptor import DatasetDescriptor

USERS = [f"u{n:03d}" for n in range(200)]
CODES = split_users(USERS, 0.1, 0.1)


@pytest.fixture
def descriptor() -> DatasetDescriptor:
    return DatasetDescriptor.model_validate(
        {
            "name": "small",
            "feedback": "implicit",
            "interactions": {"path": "r", "columns": {"user_id": "u", "item_id": "i"}},
            "users": {
                "path": "u",
                "columns": {"user_id": "u"},
                "features": {
                    "job": {"column": "j", "kind": "categorical"},
                    "age": {"column": "a", "kind": "numeric"},
                },
            },
            "items": {
                "path": "i",
                "columns": {"item_id": "i"},
                "features": {"tags": {"column": "g", "kind": "multi"}},
            },
        }
    )


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    """Held-out users have a job, an age and an item that no training user has."""
    held_out = CODES != Split.TRAIN
    path = tmp_path / "clean"
    path.mkdir()
    pl.DataFrame(
        {
            "user_id": USERS,
            "source_row": range(200),
            "job": [
                "tell-tale" if out else ("cook" if n % 3 else None)
                for n, out in enumerate(held_out)
            ],
            "age": [1e6 if out else (20.0 if n % 2 else 40.0) for n, out in enumerate(held_out)],
        }
    ).write_parquet(path / "users.parquet")
    pl.DataFrame(
        {
            "item_id": ["a", "b", "only-held-out", "untouched"],
            "title": ["A", "B", "C", "D"],
            "source_row": [1, 2, 3, 4],
            "tags": [["x"], ["x"], ["tell-tale"], ["tell-tale"]],
        }
    ).write_parquet(path / "items.parquet")
    pl.DataFrame(
        {
            "user_id": USERS,
            "item_id": [
                "only-held-out" if out else ("a" if n % 2 else "b")
                for n, out in enumerate(held_out)
            ],
        }
    ).write_parquet(path / "interactions.parquet")
    return path


def build(clean: Path, out: Path, descriptor: DatasetDescriptor) -> dict[str, object]:
    out.mkdir()
    config = EpisodesConfig(validation_fraction=0.1, test_fraction=0.1)
    return build_features(clean, out, descriptor=descriptor, config=config, seed=3).facts


def test_nothing_of_held_out_users_reaches_the_statistics(
    tmp_path: Path, clean: Path, descriptor: DatasetDescriptor
) -> None:
    out = tmp_path / "out"
    facts = build(clean, out, descriptor)
    users = FeatureEncoder.load(out, "user_encoder")
    assert users.names == ["job=cook", "job:other", "job:missing", "age", "age:missing"]
    assert "tell-tale" not in (out / "user_encoder.json").read_text()
    assert "tell-tale" not in (out / "item_encoder.json").read_text()
    training = load_file(out / "user_features.safetensors")["features"][CODES == Split.TRAIN]
    assert abs(training[:, 3].mean()) < 1e-5
    assert facts["items"]["fitted_on"] == 2
    assert facts["splits"]["train"] == int((CODES == Split.TRAIN).sum())


def test_tables_and_matrices_stand_in_the_same_order(
    tmp_path: Path, clean: Path, descriptor: DatasetDescriptor
) -> None:
    out = tmp_path / "out"
    facts = build(clean, out, descriptor)
    users, items = pl.read_parquet(out / "users.parquet"), pl.read_parquet(out / "items.parquet")
    assert users.columns == ["user_id", "split", "job", "age", "age:missing"]
    assert users["user_id"].to_list() == USERS
    np.testing.assert_array_equal(users["split"].to_numpy(), CODES)
    assert users.null_count().sum_horizontal().item() == 0
    assert items.columns == ["item_id", "title", "tags"]
    matrix = load_file(out / "item_features.safetensors")["features"]
    assert matrix.dtype == np.float32
    assert matrix.shape == (4, 3)
    again = FeatureEncoder.load(out, "item_encoder").encode(items)
    np.testing.assert_array_equal(again, matrix)
    assert facts["users"]["imputed"]["job"] == users.filter(pl.col("job") == "(missing)").height


def test_the_same_input_gives_the_same_bytes(
    tmp_path: Path, clean: Path, descriptor: DatasetDescriptor
) -> None:
    for name in ("one", "two"):
        build(clean, tmp_path / name, descriptor)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_a_dataset_without_features_has_empty_matrices(tmp_path: Path, clean: Path) -> None:
    bare = DatasetDescriptor.model_validate(
        {
            "name": "bare",
            "feedback": "implicit",
            "interactions": {"path": "r", "columns": {"user_id": "u", "item_id": "i"}},
        }
    )
    out = tmp_path / "out"
    build(clean, out, bare)
    assert load_file(out / "user_features.safetensors")["features"].shape == (200, 0)
