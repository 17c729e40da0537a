"""Dataset lineage: what a run read, by name, content hash, schema and place."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path

import polars as pl
from mlflow.data.dataset_source_registry import get_dataset_source_from_json
from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.polars_dataset import infer_schema
from mlflow.entities import DatasetInput, InputTag
from mlflow.types import Schema
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from metarec_core.storage import StageOutput, read_manifest

DIGEST_LENGTH = 16
"""Hexadecimal digits of the content hash that MLflow shows; the profile holds all 64."""


class Context(StrEnum):
    """What a run read a dataset for."""

    TRAINING = "training"
    EVALUATION = "evaluation"


class StageDataset(MetaDataset):
    """A published stage, or one Parquet table of it, described without reading its rows.

    Args:
        output: The stage.
        name: Name shown in MLflow.
        table: A Parquet file of the stage; None for the whole directory.
    """

    def __init__(self, output: StageOutput, name: str, table: str | None = None) -> None:
        path = output.path / table if table else output.path
        content = read_manifest(output.path).files[table] if table else output.content_hash
        self._profile: dict[str, str | int | None] = {
            "content_hash": content,
            "stage": output.stage,
            "stage_key": output.key,
            "rows": _rows(path) if table else output.rows_out,
        }
        source = get_dataset_source_from_json(json.dumps({"uri": str(path)}), "local")
        super().__init__(
            source,
            name=name,
            digest=content[:DIGEST_LENGTH],
            schema=_schema(path) if table else None,
        )

    @property
    def profile(self) -> dict[str, str | int | None]:
        """Full content hash, stage, key and number of rows."""
        return self._profile

    def to_dict(self) -> dict[str, str]:
        """MLflow's description, profile included."""
        return {**super().to_dict(), "profile": json.dumps(self._profile)}


def dataset_input(dataset: StageDataset, context: Context) -> DatasetInput:
    """The entity that links ``dataset`` to a run."""
    tags = [InputTag(MLFLOW_DATASET_CONTEXT, context.value)]
    return DatasetInput(dataset._to_mlflow_entity(), tags)


def _schema(path: Path) -> Schema:
    # An empty frame has the types without the rows; its columns count as nullable.
    return infer_schema(pl.DataFrame(schema=pl.read_parquet_schema(path)))


def _rows(path: Path) -> int:
    return int(pl.scan_parquet(path).select(pl.len()).collect().item())
