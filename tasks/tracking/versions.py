"""Registered versions: what is known of one, and its files."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import get_model_info
from pydantic import BaseModel, ConfigDict

from metarec_core.errors import ModelError, StorageError
from metarec_core.storage import hash_directory
from tasks.tracking.store import TrackingStore, without_credentials

MODEL_NAME = "metarec"
CHAMPION = "champion"
BUNDLE = "bundle"
"""The bundle's name among a version's artifacts, and where it is copied to."""

ABSENT = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"})
"""Codes of MLflow's for something that is not there."""


class ChampionRef(BaseModel):
    """A registered version and what is known of it: plain data that tasks can hand on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int
    dataset: str
    """Name of the dataset that it was trained on."""
    learner: str
    content_hash: str
    """Hash of the bundle's files."""
    code_version: str
    """Version of the code that the model carries."""
    stage_key: str
    run_date: date
    run_id: str | None
    metrics: dict[str, float]

    @property
    def uri(self) -> str:
        """Where MLflow finds the version, whatever its aliases."""
        return f"models:/{MODEL_NAME}/{self.version}"


def model_version(store: TrackingStore, version: int) -> ChampionRef:
    """A registered version.

    Raises:
        ModelError: If it is gone, or metarec did not make it.
    """
    with store.guarded(f"read model version {version}"):
        try:
            found = store.client.get_model_version(MODEL_NAME, str(version))
        except MlflowException as error:
            if error.error_code not in ABSENT:
                raise
            raise ModelError(
                f"models:/{MODEL_NAME}/{version}",
                found="no such version",
                wanted="a registered version",
                next_step=f"point the alias {CHAMPION!r} at another version in MLflow's pages, "
                "or delete the alias: the next run then chooses a champion anew",
            ) from error
    return reference(found)


def download_bundle(store: TrackingStore, ref: ChampionRef, into: Path) -> Path:
    """Copy a version's bundle to ``into/bundle`` and return that directory.

    What comes back is whole, byte for byte: that it cannot be loaded has another cause.

    Raises:
        StorageError: If the version's files are missing, damaged or not those registered.
        ServiceError: If the store is a server that does not answer.
    """
    into.mkdir(parents=True, exist_ok=True)
    target = into / BUNDLE
    with readable(store, ref), tempfile.TemporaryDirectory(dir=into) as scratch:
        info = get_model_info(ref.uri)
        inside = info.flavors["python_function"]["artifacts"][BUNDLE]["path"]
        whole = mlflow.artifacts.download_artifacts(ref.uri, dst_path=scratch)
        found = hash_directory(Path(whole) / inside)
        if found != ref.content_hash:
            raise _unreadable(ref, f"files with hash {found[:12]}, not {ref.content_hash[:12]}")
        shutil.rmtree(target, ignore_errors=True)
        (Path(whole) / inside).rename(target)
    return target


def reference(version: ModelVersion) -> ChampionRef:
    """What MLflow keeps of a version.

    Raises:
        ModelError: If metarec did not make it.
    """
    tags = version.tags
    try:
        return ChampionRef(
            version=int(version.version),
            dataset=tags["dataset"],
            learner=tags["learner"],
            content_hash=tags["content_hash"],
            code_version=tags["code_version"],
            stage_key=tags["stage_key"],
            run_date=date.fromisoformat(tags["run_date"]),
            run_id=version.run_id or None,
            metrics=json.loads(tags["metrics"]),
        )
    except (KeyError, ValueError) as error:
        raise ModelError(
            f"models:/{MODEL_NAME}/{version.version}",
            found=f"tags that metarec does not know ({type(error).__name__}: {error})",
            wanted="a version registered by metarec",
            next_step=f"point the alias {CHAMPION!r} at another version in MLflow's pages, "
            "or delete the alias: the next run then chooses a champion anew",
        ) from error


@contextmanager
def readable(store: TrackingStore, ref: ChampionRef) -> Iterator[None]:
    """Turn what MLflow and the file system say of missing files into a StorageError.

    Raises:
        StorageError: If the files cannot be had.
        ServiceError: If a server does not answer.
    """
    with store.guarded(f"read the files of {ref.uri}"):
        try:
            yield
        except MlflowException as error:
            # A server that is down says nothing of the files: that is for the guard to tell.
            if store.is_server and error.error_code not in ABSENT:
                raise
            raise _unreadable(ref, f"{type(error).__name__}: {error}") from error
        except (OSError, KeyError) as error:
            raise _unreadable(ref, f"{type(error).__name__}: {error}") from error


def _unreadable(ref: ChampionRef, found: str) -> StorageError:
    return StorageError(
        f"files of {ref.uri}",
        found=without_credentials(" ".join(found.split()))[:400],
        wanted="the files that were registered",
        next_step="see that MLflow's artifacts can be read; restore what is lost, or point "
        f"the alias {CHAMPION!r} at another version",
    )
