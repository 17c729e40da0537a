"""The command as its user runs it: exit codes, messages, JSON, and a run that is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

QUICK = [
    "training.threads=1",
    "cleaning.threads=1",
    "learners.gaussian.taste_dim=4",
    "learners.gaussian.exposure_dim=8",
    "learners.gaussian.hidden=8",
    "learners.gaussian.loop.epochs=12",
    "learners.gaussian.loop.batch_tasks=4",
    "gate.resamples=200",
]


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    kept.pop("MLFLOW_TRACKING_URI", None)
    return kept | {"METAREC_HOME": str(home), "OMP_NUM_THREADS": "1"}


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "flows.cli", *words]


def metarec(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), env=environment(home), capture_output=True, text=True, timeout=280
    )


def settings(dataset) -> list[str]:
    pairs = [f"dataset.name={dataset.descriptor}", *QUICK]
    return [word for pair in pairs for word in ("--set", pair)]


def test_help_names_every_command(tmp_path: Path) -> None:
    text = metarec(tmp_path, "--help").stdout
    for name in ("demo", "run", "recommend", "show", "status", "data", "config", "up", "down"):
        assert f" {name} " in text


def test_config_prints_a_file_that_config_takes(tmp_path: Path) -> None:
    printed = metarec(tmp_path, "config", "--set", "seed=11").stdout
    file = tmp_path / "night.yaml"
    file.write_text(printed)
    again = metarec(tmp_path, "config", "--config", str(file)).stdout
    assert "seed: 11" in again
    assert again == printed


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["run", "--set", "trainin.threads=1"], 2, "did you mean 'training'"),
        (["run", "--set", "recommend.k=0"], 2, "greater than or equal to 1"),
        (["run", "--config", "nowhere.yaml"], 2, "nowhere.yaml"),
        (["show", "1"], 3, "metarec demo"),
        (["status"], 5, "metarec demo"),
        (["data", "fetch", "ml-100"], 3, "did you mean 'ml-100k'"),
        (["data", "fetch", "ml-latest-small"], 3, "dataset.path"),
    ],
)
def test_mistakes_have_one_clear_message_and_an_exit_code(
    tmp_path: Path, words: list[str], code: int, expected: str
) -> None:
    result = metarec(tmp_path / "home", *words)
    assert result.returncode == code, result.stderr
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.count("error: ") == 1


def test_an_error_is_json_where_json_was_asked_for(tmp_path: Path) -> None:
    result = metarec(tmp_path / "home", "status", "--json")
    assert result.returncode == 5
    assert json.loads(result.stdout)["error"]["kind"] == "StorageError"


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path, own_dataset) -> None:
    (tmp_path / "file").write_text("in the way")
    result = metarec(tmp_path / "file" / "home", "run", *settings(own_dataset))
    assert result.returncode == 5
    assert "METAREC_HOME" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.timeout(900)
def test_a_killed_night_resumes_and_publishes_the_same_bytes(tmp_path: Path, own_dataset) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    words = ["run", "--json", "--date", "2026-03-02", *settings(own_dataset)]
    uninterrupted = metarec(whole, *words)
    assert uninterrupted.returncode == 0, uninterrupted.stderr

    process = subprocess.Popen(
        command(*words),
        env=environment(killed),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    kill_in_training(process, killed)
    assert not (killed / "lists" / "latest").exists()
    assert last_run(killed)["state"] == "running"

    resumed = metarec(killed, *words)
    assert resumed.returncode == 0, resumed.stderr
    status = json.loads(resumed.stdout)
    reused = {stage["name"]: stage["reused"] for stage in status["stages"]}
    assert [name for name, found in reused.items() if not found] == ["train", "gate", "recommend"]
    epochs = training_epochs(killed, status)
    assert epochs[-1] == 12
    assert epochs[0] > 1, "training began anew"
    files = [home / "lists" / "latest" / "recommendations.parquet" for home in (whole, killed)]
    assert files[0].read_bytes() == files[1].read_bytes()

    shown = metarec(killed, "show", "c1")
    assert shown.returncode == 0
    assert "Article" in shown.stdout
    as_json = json.loads(metarec(killed, "show", "c219", "--json").stdout)
    assert len(as_json) == 10
    assert json.loads(metarec(killed, "status", "--json").stdout) == status


def kill_in_training(process: subprocess.Popen[bytes], home: Path) -> None:
    """SIGKILL to the process, and to the server it started, once there is a checkpoint."""
    deadline = time.monotonic() + 240
    while not list((home / "lake" / "train").glob(".*.scratch/gaussian/checkpoint.pt")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "no checkpoint within four minutes"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_run(home: Path) -> dict[str, Any]:
    return json.loads((home / "runs" / "latest" / "status.json").read_text())


def training_epochs(home: Path, status: dict[str, Any]) -> list[int]:
    """Steps that the resumed night's training logged to MLflow."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{home / 'mlflow' / 'mlflow.db'}"
    client = MlflowClient(uri, uri)
    experiment = client.get_experiment_by_name("metarec")
    night = status["paths"]["mlflow"].rpartition("/")[2]
    nested = client.search_runs([experiment.experiment_id], f"tags.mlflow.parentRunId = '{night}'")
    train = next(run for run in nested if run.info.run_name == "train")
    history = client.get_metric_history(train.info.run_id, "gaussian/loss")
    return sorted(point.step for point in history)
