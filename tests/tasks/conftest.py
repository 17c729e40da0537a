"""One SQLite store for all tests of tasks (a new one costs seconds of migrations), and nights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from metarec_core.config import Config, load_config
from metarec_core.home import Home
from metarec_core.reporting.status import RunPaths, RunStatus
from metarec_core.serving.bundle import load_bundle, save_bundle
from metarec_core.storage import StageOutput
from tasks.clean import clean, encode_features
from tasks.episodes import sample_episodes
from tasks.ingest import ingest
from tasks.night import Night
from tasks.tracking import (
    CHAMPION,
    MODEL_NAME,
    ChampionRef,
    TrackingStore,
    champion,
    night_run,
    open_store,
    promote,
    register_challenger,
)
from tasks.train import meta_train

UI = "http://127.0.0.1:5001"
RUN_DATE = date(2026, 3, 2)


@pytest.fixture(scope="session")
def tracking_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("tracking") / "home with space").ensure()


@pytest.fixture(scope="session")
def store(tracking_home: Home) -> TrackingStore:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return open_store(tracking_home, ui=f"{UI}/")


@dataclass(frozen=True)
class Workshop:
    """A night up to the gate, on a small shop, with two quick learners: bias challenges."""

    night: Night
    raw: StageOutput
    cleaned: StageOutput
    features: StageOutput
    episodes: StageOutput
    trained: StageOutput

    @property
    def data(self) -> tuple[StageOutput, StageOutput, StageOutput]:
        """What gate and recommend are given."""
        return self.cleaned, self.features, self.episodes

    def bundle(self, name: str, into: Path, **changes: Any) -> Path:
        """A copy of a learner's bundle with other fields."""
        save_bundle(replace(load_bundle(self.trained.path / name), **changes), into)
        return into

    def enthrone(self, directory: Path, learner: str) -> ChampionRef:
        """Register a bundle and make it champion."""
        ref = register_challenger(
            self.night.store,
            directory,
            run_id=self.night.tracked.run_id,
            learner=learner,
            stage_key="0123abcd",
            run_date=RUN_DATE,
            metrics={},
        )
        return promote(self.night.store, ref.version, over=champion(self.night.store))

    def dethrone(self) -> None:
        """Remove the alias ``champion``."""
        client = self.night.store.client
        if client.search_registered_models(f"name = '{MODEL_NAME}'"):
            client.delete_registered_model_alias(MODEL_NAME, CHAMPION)


def open_night(home: Home, store: TrackingStore, config: Config) -> Night:
    """A night without Prefect."""
    return Night(
        home=home,
        config=config,
        run_date=RUN_DATE,
        tracked=night_run(store, config=config, run_date=RUN_DATE),
        status=RunStatus(
            run_id=f"{RUN_DATE}-test",
            run_date=RUN_DATE,
            flow="nightly",
            dataset="shop",
            state="running",
            started_at=datetime.now(UTC),
            paths=RunPaths(),
        ),
    )


@pytest.fixture(scope="session")
def prepared(
    tracking_home: Home,
    store: TrackingStore,
    make_own_dataset: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Workshop:
    dataset = make_own_dataset(tmp_path_factory.mktemp("tasks") / "shop")
    config = load_config(
        None,
        [
            f"dataset.name={dataset.descriptor}",
            "training.learners=[popularity, bias]",
            "training.threads=1",
            "cleaning.threads=1",
            "episodes.test_fraction=0.3",
            "gate.resamples=200",
        ],
    )
    night = open_night(tracking_home, store, config)
    with disable_run_logger():
        raw = ingest.fn(night)
        cleaned = clean.fn(night, raw)
        features = encode_features.fn(night, raw, cleaned)
        episodes = sample_episodes.fn(night, raw, cleaned, features)
        trained = meta_train.fn(night, raw, features, episodes)
    return Workshop(night, raw, cleaned, features, episodes, trained)


@pytest.fixture
def workshop(prepared: Workshop) -> Iterator[Workshop]:
    """The prepared night, without a champion and without Prefect's loggers."""
    prepared.dethrone()
    with disable_run_logger():
        yield prepared
    prepared.dethrone()
