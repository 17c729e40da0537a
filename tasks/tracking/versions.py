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

from metarec_core.errors import ModelError
from metarec_core.storage import hash_file, hash_json
from tasks.tracking.store import TrackingStore

MODEL_NAME = "metarec"
CHAMPION = "champion"

ABSENT = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"})
"""Codes of MLflow's for something that is not there."""


class ChampionRef(BaseModel):
    """A registered version and what is known of it: plain data that tasks can hand on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int
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


def download_bundle(ref: ChampionRef, into: Path) -> Path:
    """Copy a version's bundle to ``into/bundle`` and return that directory.

    Raises:
        ModelError: If the version's files are missing, damaged or not those registered.
    """
    into.mkdir(parents=True, exist_ok=True)
    target = into / "bundle"
    with readable(ref), tempfile.TemporaryDirectory(dir=into) as scratch:
        info = get_model_info(ref.uri)
        inside = info.flavors["python_function"]["artifacts"]["bundle"]["path"]
        whole = mlflow.artifacts.download_artifacts(ref.uri, dst_path=scratch)
        found = bundle_hash(Path(whole) / inside)
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
            next_step=f"point the alias {CHAMPION!r} at another version in MLflow's pages",
        ) from error


@contextmanager
def readable(ref: ChampionRef) -> Iterator[None]:
    """Turn what MLflow and the file system say of missing files into a ModelError."""
    try:
        yield
    except (MlflowException, OSError, KeyError) as error:
        raise _unreadable(ref, f"{type(error).__name__}: {error}") from error


def _unreadable(ref: ChampionRef, found: str) -> ModelError:
    return ModelError(
        ref.uri,
        found=" ".join(found.split())[:400],
        wanted="the files that were registered",
        next_step=f"restore MLflow's artifacts, or point the alias {CHAMPION!r} at another version",
    )


def bundle_hash(directory: Path) -> str:
    """Hash over the names and bytes of a bundle's files.

    Raises:
        ModelError: If there are none.
    """
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    if not files:
        raise ModelError(
            f"bundle {directory}",
            found="no files" if directory.exists() else "no such directory",
            wanted="a directory written by save_bundle",
            next_step="run the training stage again",
        )
    return hash_json({path.relative_to(directory).as_posix(): hash_file(path) for path in files})
