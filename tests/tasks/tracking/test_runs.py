from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from matplotlib.figure import Figure
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

import tasks.tracking.runs as runs_module
from metarec_core.config import Config
from metarec_core.errors import ServiceError
from metarec_core.home import Home
from metarec_core.storage import StageOutput
from tasks.tracking import TrackedRun, TrackingStore, night_run, stage_run
from tasks.tracking.process import ProcessMark

RUN_DATE = date(2026, 11, 24)


def start_night(store: TrackingStore, **more: Any) -> TrackedRun:
    return night_run(store, config=Config(), run_date=RUN_DATE, **more)


def read(store: TrackingStore, run: TrackedRun | str) -> Run:
    return store.client.get_run(run if isinstance(run, str) else run.run_id)


def test_a_night_says_what_it_ran_with(store: TrackingStore, tmp_path: Path) -> None:
    with start_night(store, flow_run_id="f-1", flow_run_url="http://prefect/f-1") as night:
        assert read(store, night).info.status == "RUNNING"
    run = read(store, night)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "2026-11-24"
    assert run.data.tags["prefect.flow_run_id"] == "f-1"
    assert run.data.tags["prefect.flow_run_url"] == "http://prefect/f-1"
    assert run.data.tags["dataset"] == "ml-100k"
    assert run.data.tags["code_version"].startswith("0.")
    sizes = json.loads(run.data.params["episodes.support_sizes"])
    assert tuple(sizes) == Config().episodes.support_sizes
    file = store.client.download_artifacts(night.run_id, "config.yaml", str(tmp_path))
    assert Config.model_validate(yaml.safe_load(Path(file).read_text())) == Config()


def test_a_stage_is_nested_and_holds_its_facts(store: TrackingStore, stage: StageOutput) -> None:
    with (
        start_night(store) as night,
        stage_run(store, night.run_id, "clean", settings=Config().cleaning) as run,
    ):
        run.log_output(stage)
        run.log_figure("curve", Figure())
    found = read(store, run)
    assert found.data.tags["mlflow.parentRunId"] == night.run_id
    assert found.data.tags["stage_key"] == stage.key
    assert found.data.params["duplicates"] == "last"
    assert found.data.metrics == {
        "mae/support_at_5": 0.7,
        "rows_in": 5.0,
        "rows_out": 3.0,
        "reused": float(stage.reused),
        "seconds": stage.seconds,
    }
    names = {item.path for item in store.client.list_artifacts(run.run_id)}
    assert names == {"manifest.json", "figures"}
    figures = store.client.list_artifacts(run.run_id, "figures")
    assert [item.path for item in figures] == ["figures/curve.png"]


def test_an_exception_fails_the_stage_and_the_night(store: TrackingStore) -> None:
    night = start_night(store)
    run = stage_run(store, night.run_id, "train")
    run.log_epoch(1, {"loss": 0.5})
    with pytest.raises(ValueError, match="boom"), night, run:
        raise ValueError("boom")
    assert read(store, run).info.status == "FAILED"
    assert read(store, run).data.tags["error"] == "ValueError: boom"
    assert read(store, run).data.metrics == {"loss": 0.5}
    assert read(store, night).info.status == "FAILED"


def test_an_interrupt_kills_the_night(store: TrackingStore) -> None:
    with pytest.raises(KeyboardInterrupt), start_night(store) as night:
        raise KeyboardInterrupt
    assert read(store, night).info.status == "KILLED"


def test_epochs_arrive_in_order(store: TrackingStore) -> None:
    with start_night(store) as run:
        for step in range(700):
            run.log_epoch(step, {"ndcg@10": step / 700})
    history = store.client.get_metric_history(run.run_id, "ndcg_at_10")
    assert [metric.step for metric in history] == list(range(700))


def test_stages_in_threads_do_not_mix(store: TrackingStore) -> None:
    def work(name: str) -> None:
        with stage_run(store, night.run_id, name) as run:
            run.log_metrics({"length": len(name)})
            run.set_tags({"mine": name, "nothing": None})

    with start_night(store) as night:
        threads = [threading.Thread(target=work, args=("s" * size,)) for size in (1, 2, 3, 4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    stages = store.client.search_runs(
        [store.experiment_id], f"tags.`mlflow.parentRunId` = '{night.run_id}'"
    )
    assert sorted(run.data.tags["mine"] for run in stages) == ["s", "ss", "sss", "ssss"]
    assert all(run.data.metrics["length"] == len(run.data.tags["mine"]) for run in stages)
    assert {run.info.status for run in stages} == {"FINISHED"}


KILLED = """
import os, signal, sys
from datetime import date
import tasks.tracking.runs as runs_module
from metarec_core.config import Config
from metarec_core.errors import ServiceError
from metarec_core.home import Home
from tasks.tracking import night_run, open_store, stage_run
store = open_store(Home.from_environment())
night = night_run(store, config=Config(), run_date=date(2026, 11, 24))
stage = stage_run(store, night.run_id, "train")
print(night.run_id, stage.run_id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_runs_of_a_killed_process_are_closed_by_the_next_night(
    store: TrackingStore, tracking_home: Home
) -> None:
    environment = {**os.environ, "METAREC_HOME": str(tracking_home.root)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(
        [sys.executable, "-c", KILLED],
        env=environment,
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    killed = done.stdout.split()
    assert [read(store, run_id).info.status for run_id in killed] == ["RUNNING", "RUNNING"]
    with start_night(store) as living, start_night(store):
        assert read(store, living).info.status == "RUNNING"
        assert [read(store, run_id).info.status for run_id in killed] == ["KILLED", "KILLED"]
    assert "is gone" in read(store, killed[0]).data.tags["error"]


def test_a_run_of_another_machine_is_closed_by_a_retry_of_its_flow_only(
    store: TrackingStore,
) -> None:
    night = start_night(store, flow_run_id="f-2")
    stage = stage_run(store, night.run_id, "train")
    for run in (night, stage):
        run.set_tags({"metarec.process": str(ProcessMark("another-host", 1, "1"))})
    with start_night(store, flow_run_id="f-3"):
        assert read(store, night).info.status == "RUNNING"
    with start_night(store, flow_run_id="f-2"):
        assert read(store, night).info.status == "KILLED"
        assert read(store, stage).info.status == "KILLED"


def test_a_process_is_told_from_a_later_one_with_its_number() -> None:
    mark = ProcessMark.current()
    assert ProcessMark.parse(str(mark)) == mark
    assert mark.is_alive()
    if mark.started:
        assert not ProcessMark(mark.host, mark.pid, "1").is_alive()
    assert ProcessMark.parse("") is None


def test_training_survives_a_store_that_takes_no_metrics(store, caplog, monkeypatch):
    def refuse(*args, **kwargs):
        raise MlflowException("database is locked")

    with night_run(store, config=Config(), run_date=date(2026, 3, 2)) as run:
        monkeypatch.setattr(runs_module, "_FLUSH_SECONDS", 0.0)
        with monkeypatch.context() as patch:
            patch.setattr(store.client, "log_batch", refuse)
            run.log_epoch(1, {"loss": 0.5})
        run.log_epoch(2, {"loss": 0.4})
    assert "step 1 were not logged" in caplog.text
    history = store.client.get_metric_history(run.run_id, "loss")
    assert [point.step for point in history] == [2]


def test_a_locked_database_is_a_service_that_is_busy(store):
    def busy() -> None:
        with store.guarded("log"):
            raise MlflowException("(sqlite3.OperationalError) database is locked")

    with pytest.raises(ServiceError, match="another process holds"):
        busy()
