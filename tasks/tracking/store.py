"""The tracking store: where MLflow keeps runs and models, and links into its pages."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlparse

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.telemetry import set_telemetry_client
from sqlalchemy.exc import SQLAlchemyError

from metarec_core.errors import MetarecError, ServiceError, StorageError
from metarec_core.home import Home

EXPERIMENT = "metarec"

_STORE = "MLFLOW_TRACKING_URI"

# MLflow retries a dead server seven times, over four minutes; a night should hear of it sooner.
_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

# A file that is no database surfaces as SQLAlchemy's own error.
_FAILURES = (MlflowException, SQLAlchemyError)


@dataclass(frozen=True, slots=True)
class TrackingStore:
    """An opened store: plain text, so it may travel between tasks, threads and processes.

    Attributes:
        uri: Tracking and registry URI; may hold a password, so what is shown is ``address``.
        experiment_id: The experiment that holds every night.
        ui: Address of the MLflow pages that show this store, without a trailing slash; None
            when no server is known.
    """

    uri: str
    experiment_id: str
    ui: str | None

    @property
    def address(self) -> str:
        """The URI without a user's name and password."""
        return without_credentials(self.uri)

    @property
    def is_server(self) -> bool:
        """Whether a server answers, not a database."""
        return _is_server(self.uri)

    @property
    def client(self) -> MlflowClient:
        """A client of this store; one is shared by the process."""
        return _client(self.uri)

    def run_url(self, run_id: str) -> str | None:
        """Page of a run, or None when no server is known."""
        if self.ui is None:
            return None
        return f"{self.ui}/#/experiments/{self.experiment_id}/runs/{run_id}"

    @contextmanager
    def guarded(self, action: str) -> Iterator[None]:
        """Turn MLflow's errors inside the block into metarec's.

        Raises:
            ServiceError: If the store is a server and ``action`` failed.
            StorageError: If it is a database file and ``action`` failed.
        """
        try:
            yield
        except _FAILURES as error:
            raise _store_error(self.uri, action, error) from error


def open_store(home: Home, *, ui: str | None = None) -> TrackingStore:
    """Open the home's store, create its experiment if there is none, and keep MLflow quiet.

    A SQLite store gets its artifacts under ``home.mlflow``; a server decides by itself. The
    first use of a new SQLite file takes some seconds of migrations. Opening is idempotent.

    Args:
        home: Says which store (``home.mlflow_uri``).
        ui: Address of the server that shows a SQLite store; a server shows itself.

    Raises:
        ServiceError: If the store is a server that does not answer.
        StorageError: If the database file or its artifacts cannot be used.
    """
    home.ensure().apply_environment()
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    # MLflow may have been imported before the environment said that nothing is to be reported.
    set_telemetry_client()
    for logger in ("mlflow", "alembic"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    uri = home.mlflow_uri
    _point_mlflow_at(uri)
    remote = _is_server(uri)
    try:
        experiment = _experiment(MlflowClient(uri, uri), None if remote else home.mlflow)
    except _FAILURES as error:
        raise _store_error(uri, "open the store", error) from error
    base = without_credentials(uri) if remote else ui
    return TrackingStore(uri, experiment.experiment_id, base.rstrip("/") if base else None)


def _point_mlflow_at(uri: str) -> None:
    """Set MLflow's process-wide store, for the calls that take none.

    MLflow also writes it into the environment, where the next home would take it for the
    operator's wish.
    """
    before = os.environ.get(_STORE)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    if before is None:
        os.environ.pop(_STORE, None)
    else:
        os.environ[_STORE] = before


@lru_cache(maxsize=8)
def _client(uri: str) -> MlflowClient:
    return MlflowClient(uri, uri)


def _experiment(client: MlflowClient, directory: Path | None) -> Experiment:
    """The experiment; ``directory`` holds its artifacts unless a server decides."""
    found = client.get_experiment_by_name(EXPERIMENT) or _create(client, directory)
    if found.lifecycle_stage != LifecycleStage.ACTIVE:
        raise StorageError(
            f"MLflow experiment {EXPERIMENT!r}",
            found="deleted",
            wanted="an active experiment",
            next_step=f"restore it: mlflow experiments restore -x {found.experiment_id}",
        )
    if directory is not None:
        _check_artifacts(found, directory / "artifacts")
    return found


def _create(client: MlflowClient, directory: Path | None) -> Experiment:
    artifacts = None if directory is None else (directory / "artifacts").as_uri()
    try:
        made = client.create_experiment(EXPERIMENT, artifact_location=artifacts)
    except MlflowException as error:
        # Another process may have been faster.
        raced = client.get_experiment_by_name(EXPERIMENT)
        if error.error_code != "RESOURCE_ALREADY_EXISTS" or raced is None:
            raise
        return raced
    return client.get_experiment(made)


def _check_artifacts(experiment: Experiment, wanted: Path) -> None:
    """Make the artifact directory; refuse one that a moved home left behind."""
    parsed = urlparse(experiment.artifact_location)
    if parsed.scheme not in {"", "file"}:
        return
    location = Path(unquote(parsed.path))
    if location == wanted:
        wanted.mkdir(parents=True, exist_ok=True)
    elif not location.is_dir():
        raise StorageError(
            f"artifacts of MLflow experiment {EXPERIMENT!r}",
            found=f"their directory {location} is gone; the home is now {wanted.parent.parent}",
            wanted="the place where the experiment was created",
            next_step="move the home back, or remove its mlflow directory to start a new store",
        )


def _store_error(uri: str, action: str, error: Exception) -> MetarecError:
    text = without_credentials(" ".join(str(error).split()))[:400]
    if _is_server(uri):
        return ServiceError(
            f"MLflow server {without_credentials(uri)}",
            found=f"could not {action}: {text}",
            wanted="a server that answers",
            next_step="start it ('make up'), or correct MLFLOW_TRACKING_URI",
        )
    if "database is locked" in text:
        # Somebody else writes: a service that is busy, and a second try may find it free.
        return ServiceError(
            f"MLflow store {without_credentials(uri)}",
            found=f"could not {action}: another process holds the database",
            wanted="a database that is free within a few seconds",
            next_step="run again; if it happens often, 'make up' and use its MLflow server",
        )
    return StorageError(
        f"MLflow store {without_credentials(uri)}",
        found=f"could not {action}: {text}",
        wanted="a database that this user can read and write",
        next_step="check the file's permissions and free space; a damaged one can be moved away, "
        "which starts a new store without the old runs and models",
    )


def _is_server(uri: str) -> bool:
    return urlparse(uri).scheme in {"http", "https"}


def without_credentials(text: str) -> str:
    """``text`` with the user and password of every address in it removed.

    >>> without_credentials("no answer from http://me:se@cret@host:5000/api")
    'no answer from http://host:5000/api'
    """
    return re.sub(r"(?<=://)[^/?#\s]+@", "", text)
