from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from metarec_core.config import Config
from metarec_core.errors import ModelError, ServiceError, StorageError
from metarec_core.home import Home
from metarec_core.serving.bundle import load_bundle
from metarec_core.storage import code_version
from tasks.tracking import (
    CHALLENGER,
    CHAMPION,
    MODEL_NAME,
    ChampionRef,
    TrackedRun,
    TrackingStore,
    champion,
    download_bundle,
    night_run,
    open_store,
    promote,
    register_challenger,
    require_same_dataset,
)

RUN_DATE = date(2026, 11, 24)


@pytest.fixture(scope="module")
def night(store: TrackingStore) -> Iterator[TrackedRun]:
    with night_run(store, config=Config(), run_date=RUN_DATE) as run:
        yield run


@pytest.fixture(autouse=True)
def _without_champion(store: TrackingStore) -> None:
    if store.client.search_registered_models(f"name = '{MODEL_NAME}'"):
        store.client.delete_registered_model_alias(MODEL_NAME, CHAMPION)


def register(store: TrackingStore, night: TrackedRun, directory: Path) -> ChampionRef:
    return register_challenger(
        store,
        directory,
        run_id=night.run_id,
        learner=directory.name,
        stage_key="0123abcd",
        run_date=RUN_DATE,
        metrics={"mae": {"support@5": 0.75}, "note": "left out"},
    )


def n_versions(store: TrackingStore) -> int:
    return len(store.client.search_model_versions(f"name = '{MODEL_NAME}'"))


def files_of(store: TrackingStore, ref: ChampionRef) -> Path:
    """Directory of a version's files."""
    uri = store.client.get_model_version_download_uri(MODEL_NAME, str(ref.version))
    return Path(unquote(urlparse(uri).path))


def test_without_the_alias_there_is_no_champion(store: TrackingStore) -> None:
    assert champion(store) is None


def test_a_version_says_where_it_comes_from(
    store: TrackingStore, night: TrackedRun, bundles: dict[str, Path]
) -> None:
    ref = register(store, night, bundles["bias"])
    assert (ref.learner, ref.dataset) == ("bias", "toy")
    assert ref.metrics == {"mae/support_at_5": 0.75}
    assert ref.code_version == code_version()
    assert (ref.stage_key, ref.run_date, ref.run_id) == ("0123abcd", RUN_DATE, night.run_id)
    by_alias = store.client.get_model_version_by_alias(MODEL_NAME, CHALLENGER)
    assert int(by_alias.version) == ref.version


def test_files_lie_in_the_home(
    store: TrackingStore, tracking_home: Home, night: TrackedRun, bundles: dict[str, Path]
) -> None:
    ref = register(store, night, bundles["bias"])
    assert files_of(store, ref).is_relative_to(tracking_home.mlflow / "artifacts")


def test_the_same_bundle_is_registered_once(
    store: TrackingStore, night: TrackedRun, bundles: dict[str, Path], tmp_path: Path
) -> None:
    first = register(store, night, bundles["bias"])
    before = n_versions(store)
    copy = tmp_path / "bias"
    shutil.copytree(bundles["bias"], copy)
    assert register(store, night, copy) == first
    assert n_versions(store) == before


def test_the_champion_is_an_alias_that_moves(
    store: TrackingStore, night: TrackedRun, bundles: dict[str, Path]
) -> None:
    first = register(store, night, bundles["bias"])
    other = register(store, night, bundles["popularity"])
    assert other.version != first.version
    before = None
    for ref in (first, other, first):
        assert promote(store, ref.version, over=before) == ref
        assert champion(store) == ref
        before = ref
    challenger = store.client.get_model_version_by_alias(MODEL_NAME, CHALLENGER)
    assert int(challenger.version) == other.version


def test_an_alias_that_somebody_moved_is_left_alone(
    store: TrackingStore, night: TrackedRun, bundles: dict[str, Path]
) -> None:
    first = register(store, night, bundles["bias"])
    other = register(store, night, bundles["popularity"])
    promote(store, first.version, over=None)
    for judged_against in (None, other):
        with pytest.raises(ServiceError, match=r"changed while this night was judged.*run again"):
            promote(store, other.version, over=judged_against)
        assert champion(store) == first


def test_a_champion_serves_one_dataset(
    store: TrackingStore, night: TrackedRun, bundles: dict[str, Path]
) -> None:
    assert require_same_dataset(store, "toy") is None
    ref = promote(store, register(store, night, bundles["bias"]).version, over=None)
    assert require_same_dataset(store, "toy") == ref
    with pytest.raises(ModelError, match=r"champion .* serves dataset 'toy'") as caught:
        require_same_dataset(store, "other")
    assert "METAREC_HOME" in caught.value.next_step
    command = caught.value.next_step.partition('python -c "')[2].removesuffix('"')
    subprocess.run([sys.executable, "-c", command], check=True, timeout=120)
    assert require_same_dataset(store, "other") is None


def test_the_bundle_of_a_version_comes_back_whole(
    store: TrackingStore, night: TrackedRun, bundles: dict[str, Path], tmp_path: Path
) -> None:
    ref = register(store, night, bundles["bias"])
    for _ in range(2):
        directory = download_bundle(store, ref, tmp_path)
    assert load_bundle(directory).learner.name == "bias"
    assert [path.name for path in tmp_path.iterdir()] == [directory.name]


def test_a_version_that_does_not_exist_is_refused(
    store: TrackingStore, night: TrackedRun, bundles: dict[str, Path]
) -> None:
    register(store, night, bundles["bias"])
    with pytest.raises(ModelError, match="no such version"):
        promote(store, 999_999, over=None)


def test_a_dangling_alias_says_what_to_do(
    store: TrackingStore, night: TrackedRun, bundles: dict[str, Path]
) -> None:
    promote(store, register(store, night, bundles["bias"]).version, over=None)
    # MLflow deletes aliases with their version; only a damaged database has a dangling one.
    with sqlite3.connect(store.uri.removeprefix("sqlite:///")) as connection:
        connection.execute(
            "UPDATE registered_model_aliases SET version = 999999 WHERE alias = ?", [CHAMPION]
        )
    connection.close()
    with pytest.raises(ModelError, match="Next step: point the alias 'champion'"):
        champion(store)


def test_a_foreign_version_is_refused(
    store: TrackingStore, night: TrackedRun, bundles: dict[str, Path]
) -> None:
    register(store, night, bundles["bias"])
    foreign = store.client.create_model_version(MODEL_NAME, source=f"runs:/{night.run_id}/model")
    try:
        with pytest.raises(ModelError, match="registered by metarec"):
            promote(store, int(foreign.version), over=None)
    finally:
        store.client.delete_model_version(MODEL_NAME, foreign.version)


def test_damaged_files_are_noticed_and_registered_anew(
    store: TrackingStore, night: TrackedRun, bundles: dict[str, Path], tmp_path: Path
) -> None:
    ref = register(store, night, bundles["bias"])
    files = files_of(store, ref)
    weights = next(files.rglob("weights.safetensors"))
    weights.write_bytes(weights.read_bytes() + b"x")
    with pytest.raises(StorageError, match="files with hash"):
        download_bundle(store, ref, tmp_path)
    shutil.rmtree(files)
    with pytest.raises(StorageError, match="artifacts can be read; restore what is lost"):
        download_bundle(store, ref, tmp_path)
    again = register(store, night, bundles["bias"])
    assert again.version > ref.version
    download_bundle(store, again, tmp_path)


def test_a_server_that_is_down_is_no_word_about_the_champion(
    store: TrackingStore,
    tracking_home: Home,
    night: TrackedRun,
    bundles: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ref = register(store, night, bundles["bias"])
    server = TrackingStore("http://me:secret@127.0.0.1:9", store.experiment_id, None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    try:
        with pytest.raises(ServiceError):
            open_store(tracking_home)  # MLflow's own calls go where it was pointed last
        with pytest.raises(ServiceError, match=f"read the files of {ref.uri}") as caught:
            download_bundle(server, ref, tmp_path)
    finally:
        monkeypatch.undo()
        open_store(tracking_home)
    assert "secret" not in str(caught.value)


def test_a_damaged_bundle_is_never_registered(
    store: TrackingStore, night: TrackedRun, bundles: dict[str, Path], tmp_path: Path
) -> None:
    register(store, night, bundles["bias"])
    before = n_versions(store)
    copy = tmp_path / "bias"
    shutil.copytree(bundles["bias"], copy)
    (copy / "weights.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"weights\.safetensors"):
        register(store, night, copy)
    with pytest.raises(ModelError, match=r"bundle\.json"):
        register(store, night, tmp_path / "absent")
    assert n_versions(store) == before
