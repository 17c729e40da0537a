from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from metarec_core.errors import ServiceError, StorageError
from metarec_core.home import Home
from tasks.tracking import EXPERIMENT, TrackingStore, open_store


def test_artifacts_of_a_sqlite_store_lie_in_the_home(
    store: TrackingStore, tracking_home: Home
) -> None:
    experiment = store.client.get_experiment_by_name(EXPERIMENT)
    assert experiment.experiment_id == store.experiment_id
    assert experiment.artifact_location == (tracking_home.mlflow / "artifacts").as_uri()


def test_opening_again_gives_the_same_store(store: TrackingStore, tracking_home: Home) -> None:
    assert open_store(tracking_home, ui=store.ui) == store


def test_links_lead_to_the_page_of_a_run(store: TrackingStore) -> None:
    url = f"http://127.0.0.1:5001/#/experiments/{store.experiment_id}/runs/abc"
    assert store.run_url("abc") == url


@pytest.mark.parametrize(
    "credentials", ["", "user@", "user:secret@", "user:se@cret@", ":secret@"], ids=str
)
def test_no_password_is_ever_shown(
    credentials: str,
    store: TrackingStore,
    tracking_home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uri = f"http://{credentials}127.0.0.1:9"
    shown = TrackingStore(uri, "1", None).address
    assert shown == "http://127.0.0.1:9"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    try:
        with pytest.raises(ServiceError, match=r"127\.0\.0\.1:9") as caught:
            open_store(Home(tmp_path))
        monkeypatch.setattr(
            "tasks.tracking.store._experiment", lambda *_: SimpleNamespace(experiment_id="1")
        )
        opened = open_store(Home(tmp_path))
    finally:
        monkeypatch.undo()
        open_store(tracking_home)
    assert "cret" not in str(caught.value)
    assert "user" not in str(caught.value)
    assert opened.run_url("abc") == "http://127.0.0.1:9/#/experiments/1/runs/abc"


def test_without_a_server_there_is_no_link(store: TrackingStore) -> None:
    assert TrackingStore(store.uri, store.experiment_id, None).run_url("abc") is None


def test_a_home_that_was_moved_is_refused(
    store: TrackingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    experiment = store.client.get_experiment(store.experiment_id)
    artifacts = Path(experiment.artifact_location.removeprefix("file://").replace("%20", " "))
    hidden = artifacts.rename(artifacts.with_name("hidden"))
    try:
        with pytest.raises(StorageError, match="is gone"):
            open_store(Home(tmp_path / "elsewhere"))
    finally:
        hidden.rename(artifacts)
        monkeypatch.undo()
        open_store(Home(artifacts.parent.parent))


def test_a_file_that_is_no_database_is_refused(
    store: TrackingStore,
    tracking_home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    damaged = tmp_path / "mlflow.db"
    damaged.write_bytes(b"not a database" * 1000)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{damaged}")
    try:
        with pytest.raises(StorageError, match="Next step"):
            open_store(Home(tmp_path))
    finally:
        monkeypatch.undo()
        open_store(tracking_home)


def test_a_server_that_does_not_answer_is_named(
    store: TrackingStore,
    tracking_home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    try:
        with pytest.raises(ServiceError, match=r"127\.0\.0\.1:9.*make up"):
            open_store(Home(tmp_path))
    finally:
        monkeypatch.undo()
        open_store(tracking_home)
