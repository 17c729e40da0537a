"""The command as its user runs it: exit codes, messages, JSON, and a run that is killed."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.services.health import call
from metarec_core.storage import hash_files

QUICK = [
    "training.threads=1",
    "cleaning.threads=1",
    "learners.gaussian.taste_dim=4",
    "learners.gaussian.exposure_dim=8",
    "learners.gaussian.hidden=8",
    "learners.gaussian.loop.epochs=12",
    "learners.gaussian.loop.batch_tasks=4",
    "learners.amortised.dim=8",
    "learners.amortised.hidden=8",
    "learners.amortised.loop.epochs=4",
    "gate.resamples=200",
]


def settings(dataset) -> list[str]:
    pairs = [f"dataset.name={dataset.descriptor}", *QUICK]
    return [word for pair in pairs for word in ("--set", pair)]


def test_help_names_every_command(metarec, tmp_path: Path) -> None:
    text = metarec.run(tmp_path, "--help").stdout
    names = (
        "demo",
        "run",
        "recommend",
        "benchmark",
        "transfer",
        "tune",
        "show",
        "similar",
        "status",
        "data",
        "config",
    )
    for name in (*names, "up", "down"):
        assert f" {name} " in text


def test_config_prints_a_file_that_config_takes(metarec, tmp_path: Path) -> None:
    printed = metarec.run(tmp_path, "config", "--set", "seed=11").stdout
    file = tmp_path / "night.yaml"
    file.write_text(printed)
    again = metarec.run(tmp_path, "config", "--config", str(file)).stdout
    assert "seed: 11" in again
    assert again == printed


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["config", "--set", "trainin.threads=1"], 2, "did you mean 'training'"),
        (["config", "--set", "recommend.k=0"], 2, "greater than or equal to 1"),
        (["run", "--config", "nowhere.yaml"], 2, "nowhere.yaml"),
        (["show", "1"], 3, "metarec demo"),
        (["similar"], 2, "neither an item nor a user"),
        (["similar", "1", "--user", "1"], 2, "both an item and a user"),
        (["similar", "1", "--set", "similar.k=0"], 2, "greater than or equal to 1"),
        (["status"], 5, "metarec demo"),
        (["data", "fetch", "ml-100"], 3, "did you mean 'ml-100k'"),
        (["data", "fetch", "ml-latest-small"], 3, "dataset.path"),
    ],
)
def test_mistakes_have_one_clear_message_and_an_exit_code(
    metarec, tmp_path: Path, words: list[str], code: int, expected: str
) -> None:
    result = metarec.run(tmp_path / "home", *words)
    assert result.returncode == code, result.stderr
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.count("error: ") == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["benchmark", "--protocol", "p9"], "benchmark.protocol"),
        (["benchmark", "--learners", "magic"], "unknown learners ['magic']"),
        (["tune", "--learner", "popularity"], "'popularity' has no search space"),
        (["tune", "--learner", "magic"], "'magic' is unknown"),
        (["tune", "--trials", "0"], "tune.trials"),
        (["tune", "--metric", "luck"], "tune.metric"),
        (["transfer", "--fractions", "0,1"], "transfer.fractions"),
    ],
)
def test_a_study_out_of_bounds_is_said_once_and_recorded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], expected: str
) -> None:
    # What Prefect makes of it is for the slow tests: its server takes a while to start.
    recorded: list[str] = []
    monkeypatch.setenv("METAREC_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("flows.refused.record_refusal", lambda name, *_: recorded.append(name))
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert expected in result.stderr
    assert result.stderr.count("error: ") == 1
    assert recorded == words[:1]


def test_an_error_is_json_where_json_was_asked_for(metarec, tmp_path: Path) -> None:
    result = metarec.run(tmp_path / "home", "status", "--json")
    assert result.returncode == 5
    assert json.loads(result.stdout)["error"]["kind"] == "StorageError"


def test_a_home_that_cannot_be_written_is_named(metarec, tmp_path: Path, own_dataset) -> None:
    (tmp_path / "file").write_text("in the way")
    result = metarec.run(tmp_path / "file" / "home", "run", *settings(own_dataset))
    assert result.returncode == 5
    assert "METAREC_HOME" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize(
    ("setting", "writable", "code", "message"),
    [
        ("recommend.k=0", True, 2, "recommend.k: Input should be greater than or equal to 1"),
        ("recommend.k=5", False, 5, "set METAREC_HOME to such a directory"),
    ],
)
def test_a_run_that_cannot_start_is_a_failed_run_in_prefect(
    metarec, stack, tmp_path: Path, setting: str, writable: bool, code: int, message: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    home = tmp_path / ("" if writable else "file") / "home"
    words = ["recommend", "--set", setting]
    result = metarec.run(home, *words, PREFECT_API_URL=stack.api)
    assert result.returncode == code
    assert result.stderr.count("error: ") == 1
    assert "Traceback" not in result.stderr
    failed = {"flow_runs": {"state": {"type": {"any_": ["FAILED"]}}}}
    messages = [run["state"]["message"] for run in call(f"{stack.api}/flow_runs/filter", failed)]
    assert any(message in found for found in messages), messages


@pytest.mark.slow
@pytest.mark.e2e
def test_a_run_that_cannot_start_without_a_server_is_said_once(metarec, tmp_path: Path) -> None:
    result = metarec.run(tmp_path / "home", "run", "--set", "recommend.k=0")
    assert result.returncode == 2
    assert result.stderr.strip().count("\n") == 0
    assert (tmp_path / "home" / "prefect" / "prefect.db").exists()


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize(
    ("setting", "code"), [("recommend.k=5", 7), ("recommend.k=0", 2)], ids=["legal", "refused"]
)
def test_a_prefect_server_that_does_not_answer_is_named(
    metarec, tmp_path: Path, free_port: Callable[[], int], setting: str, code: int
) -> None:
    server = f"http://127.0.0.1:{free_port()}/api"
    words = ["recommend", "--set", setting]
    result = metarec.run(tmp_path / "home", *words, PREFECT_API_URL=server)
    assert result.returncode == code
    assert result.stderr.count("error: ") == 1
    assert f"Prefect's server {server}" in result.stderr
    assert "Traceback" not in result.stderr


@dataclass(frozen=True)
class Uninterrupted:
    """A night that nobody killed: the command, and what it left to its readers."""

    words: list[str]
    status: dict[str, Any]
    lists: dict[str, str]
    champion: str

    @property
    def stages(self) -> list[str]:
        return [stage["name"] for stage in self.status["stages"]]


@pytest.fixture(scope="module")
def uninterrupted(
    metarec, tmp_path_factory: pytest.TempPathFactory, make_own_dataset: Callable
) -> Uninterrupted:
    root = tmp_path_factory.mktemp("uninterrupted")
    dataset = make_own_dataset(root / "shop")
    shards = ["--set", "recommend.shard_users=20"]
    words = ["run", "--json", "--date", "2026-03-02", *settings(dataset), *shards]
    done = metarec.run(root / "home", *words)
    assert done.returncode == 0, done.stderr[-2000:]
    lists = published(root / "home")
    assert lists
    return Uninterrupted(words, json.loads(done.stdout), lists, champion(root / "home"))


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_a_night_killed_in_training_resumes_it_and_publishes_the_same_bytes(
    metarec, tmp_path: Path, uninterrupted: Uninterrupted
) -> None:
    home = tmp_path / "home"
    process = metarec.start(home, *uninterrupted.words)
    kill_once(process, home, "lake/train/.*.scratch/gaussian/checkpoint.pt")
    assert published(home) is None
    interrupted = last_run(metarec, home)
    assert interrupted["state"] == "interrupted"

    resumed = metarec.run(home, *uninterrupted.words)
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    status = json.loads(resumed.stdout)
    assert built(status) == ["train", "gate", "diversity", "recommend", "appraise"]
    epochs = training_epochs(home, status)
    assert epochs[-1] == 12
    assert epochs[0] > 1, "training began anew"
    assert published(home) == uninterrupted.lists
    assert champion(home) == uninterrupted.champion

    shown = metarec.run(home, "show", "c1")
    assert shown.returncode == 0
    assert "Article" in shown.stdout
    as_json = json.loads(metarec.run(home, "show", "c219", "--json").stdout)
    assert len(as_json["list"]) == 10
    assert as_json["missing"] == []
    assert "What you like, and how sure the model is" in shown.stdout
    assert "cosine" in metarec.run(home, "similar", "Article 3").stdout
    users = json.loads(metarec.run(home, "similar", "--user", "c1", "--json").stdout)
    assert [row["rank"] for row in users] == [*range(1, 11)]
    assert last_run(metarec, home) == status
    # What became of the killed run does not change with the one after it.
    assert last_run(metarec, home, interrupted["run_id"])["state"] == "interrupted"


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", ["clean", "gate", "recommend"])
def test_a_night_killed_after_a_stage_repeats_none_and_publishes_the_same_bytes(
    metarec, tmp_path: Path, uninterrupted: Uninterrupted, stage: str
) -> None:
    home = tmp_path / "home"
    process = metarec.start(home, *uninterrupted.words)
    kill_once(process, home, f"lake/{stage}/*/manifest.json")
    finished = {path.parents[1].name for path in (home / "lake").glob("*/*/manifest.json")}
    assert stage in finished
    assert stage == "recommend" or "recommend" not in finished, "it was killed too late"
    # Readers find nothing or the whole, and there is a champion only once there is a verdict.
    assert published(home) in ((None, uninterrupted.lists) if stage == "recommend" else (None,))
    reigning = champion(home)
    assert reigning == (uninterrupted.champion if stage == "recommend" else None)
    interrupted = last_run(metarec, home)
    assert interrupted["state"] == "interrupted"
    assert "completed" not in metarec.run(home, "status").stdout.splitlines()[0]

    resumed = metarec.run(home, *uninterrupted.words)
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    status = json.loads(resumed.stdout)
    assert status["state"] == "completed"
    # Where there is a champion by now the verdict has another subject: it is found anew.
    stale = {"gate"} if reigning else set()
    assert built(status) == [
        name for name in uninterrupted.stages if name not in finished or name in stale
    ]
    assert published(home) == uninterrupted.lists
    assert champion(home) == uninterrupted.champion


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_a_night_killed_between_shards_keeps_them_and_publishes_the_same_bytes(
    metarec, tmp_path: Path, uninterrupted: Uninterrupted
) -> None:
    home = tmp_path / "home"
    process = metarec.start(home, *uninterrupted.words)
    kill_once(process, home, "lake/recommend/.*.scratch/shards/shard-00002.json")
    assert published(home) is None
    (scratch,) = (home / "lake" / "recommend").glob(".*.scratch")
    whole = sorted(scratch.glob("shards/*.json"))
    assert 3 <= len(whole) < 11, "it was killed too late"

    resumed = metarec.run(home, *uninterrupted.words)
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    # There is a champion by now, so that the verdict has another subject.
    assert built(json.loads(resumed.stdout)) == ["gate", "recommend", "appraise"]
    assert resumed.stderr.count(" found, ") == len(whole)
    assert resumed.stderr.count(" written, ") == 11 - len(whole)
    assert published(home) == uninterrupted.lists
    assert not scratch.exists()


def kill_once(process: subprocess.Popen[bytes], home: Path, pattern: str) -> None:
    """SIGKILL to the process, and to the server it started, as soon as a file is there."""
    deadline = time.monotonic() + 240
    while not any(home.glob(pattern)):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, f"no {pattern} within four minutes"
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def published(home: Path) -> dict[str, str] | None:
    """Hashes of the newest lists; None where there is nothing for a reader, not even a part."""
    latest = home / "lists" / "latest"
    if not latest.is_symlink():
        return None
    assert (latest / "manifest.json").is_file()
    return hash_files(latest / "recommendations.parquet")


def champion(home: Path) -> str | None:
    """Content hash of the model in service."""
    from mlflow.exceptions import MlflowException

    try:
        version = tracking(home).get_model_version_by_alias("metarec", "champion")
    except MlflowException:
        return None
    return version.tags["content_hash"]


def tracking(home: Path):
    from mlflow import MlflowClient

    uri = f"sqlite:///{home / 'mlflow' / 'mlflow.db'}"
    return MlflowClient(uri, uri)


def last_run(metarec, home: Path, *run_id: str) -> dict[str, Any]:
    done = metarec.run(home, "status", *run_id, "--json")
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def built(status: dict[str, Any]) -> list[str]:
    """Stages that the run did not find ready."""
    return [stage["name"] for stage in status["stages"] if not stage["reused"]]


def training_epochs(home: Path, status: dict[str, Any]) -> list[int]:
    """Steps that the resumed night's training logged to MLflow."""
    client = tracking(home)
    experiment = client.get_experiment_by_name("metarec")
    night = status["paths"]["mlflow"].rpartition("/")[2]
    nested = client.search_runs([experiment.experiment_id], f"tags.mlflow.parentRunId = '{night}'")
    train = next(run for run in nested if run.info.run_name == "train")
    history = client.get_metric_history(train.info.run_id, "gaussian/loss")
    return sorted(point.step for point in history)


@pytest.mark.slow
@pytest.mark.e2e
def test_a_benchmark_ends_with_one_object_and_can_be_repeated(
    metarec, small_ml_1m: Path, tmp_path: Path
) -> None:
    words = ["benchmark", "--protocol", "p2", "--data", str(small_ml_1m)]
    words += ["--learners", "popularity,bias", "--seeds", "1,2", "--set", "benchmark.resamples=200"]
    first, second = (metarec.run(tmp_path / name, *words, "--json") for name in ("one", "two"))
    assert first.returncode == 0, first.stderr
    found, again = (json.loads(run.stdout.splitlines()[-1]) for run in (first, second))
    assert found["protocol"] == "p2"
    figures = [row for row in found["rows"] if row["state"]]
    assert figures == [row for row in again["rows"] if row["state"]]
    assert {row["learner"] for row in figures} == {"popularity", "bias", "random", "item_mean"}
    assert {row["k"] for row in figures} == {0, 1, 2, 5, 10, 20}
    assert found["seeds"] == [1, 2]
    assert found["users"] == again["users"]
    status = json.loads(metarec.run(tmp_path / "one", "status", "--json").stdout)
    place = Path(status["paths"]["benchmark"])
    assert {"report.md", "accuracy.png", "time.png", "users.json"} <= {
        file.name for file in place.iterdir()
    }
    printed = metarec.run(tmp_path / "one", *words)
    assert "NDCG@10 (higher is better)" in printed.stdout
    assert "ItemKNN (known)" in printed.stdout
    assert "reused" in printed.stdout
    lost = metarec.run(tmp_path / "one", "benchmark", "--data", str(tmp_path / "nowhere"))
    assert lost.returncode == 3
    assert "nowhere" in lost.stderr


@pytest.mark.slow
@pytest.mark.e2e
def test_a_winner_of_tuning_is_what_a_night_takes(metarec, own_dataset, tmp_path: Path) -> None:
    home = tmp_path / "home"
    words = ["tune", "--learner", "bias", "--metric", "mae", *settings(own_dataset)]
    first = metarec.run(home, *words, "--trials", "2", "--json")
    assert first.returncode == 0, first.stderr
    found = json.loads(first.stdout.splitlines()[-1])
    assert [trial["number"] for trial in found["trials"]] == [0, 1]
    more = metarec.run(home, *words, "--trials", "4")
    assert more.returncode == 0, more.stderr
    assert "Best of 4 trials" in more.stdout
    assert "2 trials are done already" in more.stdout + more.stderr
    status = json.loads(metarec.run(home, "status", "--json").stdout)
    learners = "training.learners=[popularity,bias]"
    night = metarec.run(
        home, "run", "--train-only", "--config", status["paths"]["winner"], "--set", learners
    )
    assert night.returncode == 0, night.stderr


@pytest.mark.slow
@pytest.mark.e2e
def test_a_transfer_ends_with_one_object_and_leaves_a_model(
    metarec, small_pair: Path, tmp_path: Path
) -> None:
    words = ["transfer", "--from", "ml-1m", "--to", "ml-latest-small", "--data", str(small_pair)]
    words += ["--fractions", "0.5,1", "--seeds", "1,2"]
    for setting in (
        "transfer.support_sizes=[1,4]",
        "transfer.resamples=200",
        "learners.amortised.dim=8",
        "learners.amortised.hidden=8",
        "learners.amortised.loop.epochs=2",
    ):
        words += ["--set", setting]
    made = metarec.run(tmp_path, *words, "--json")
    assert made.returncode == 0, made.stderr
    found = json.loads(made.stdout.splitlines()[-1])
    assert found["protocol"] == "transfer"
    assert {row["fraction"] for row in found["rows"]} == {0.5, 1.0}
    status = json.loads(metarec.run(tmp_path, "status", "--json").stdout)
    assert (Path(status["paths"]["transfer"]) / "model" / "bundle.json").exists()
    printed = metarec.run(tmp_path, *words)
    assert "from its features and items" in printed.stdout
    assert "reused" in printed.stdout
