"""A whole night on real data: 250 users of MovieLens 100K under the Prefect harness."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from metarec_core.config import load_config
from metarec_core.home import Home
from metarec_core.reporting.status import load_status
from metarec_core.schema import RECOMMENDATIONS_SCHEMA
from metarec_core.storage import hash_files
from tasks.tracking import champion, open_store

MONDAY = date(2026, 3, 2)
STAGES = [
    "ingest",
    "validate_raw",
    "clean",
    "validate_clean",
    "features",
    "episodes",
    "train",
    "gate",
    "diversity",
    "recommend",
    "appraise",
]


@pytest.mark.slow
def test_a_night_on_real_data_serves_everybody(
    prefect: None, movielens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.nightly import nightly

    home = Home(tmp_path / "home")
    monkeypatch.setenv("METAREC_HOME", str(home.root))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    settings = [
        f"dataset.name={movielens}",
        "training.threads=1",
        "cleaning.threads=1",
        "learners.gaussian.loop.epochs=12",
        "learners.amortised.loop.epochs=12",
    ]
    status = nightly(load_config(None, settings), MONDAY)

    assert status.state == "completed"
    assert status == load_status(home)
    assert [stage.name for stage in status.stages] == STAGES
    assert {stage.state for stage in status.stages} == {"completed"}

    rated, films = (
        pl.read_csv(
            movielens.parent / f"ml-100k.{table}",
            separator="\t",
            quote_char=None,
            infer_schema=False,
        ).rename(lambda name: name.partition(":")[0])
        for table in ("inter", "item")
    )
    ingest = status.stages[0]
    assert ingest.rows_out == len(rated)

    lists = pl.read_parquet(str(status.paths.lists), hive_partitioning=False)
    assert lists.schema == RECOMMENDATIONS_SCHEMA
    assert set(lists["user_id"]) == {str(number) for number in range(1, 251)}
    assert (lists.group_by("user_id").len()["len"] == 10).all()
    assert lists.join(rated, on=["user_id", "item_id"]).is_empty()
    titled = lists.join(films, on="item_id", how="left")
    assert (titled["title"] == titled["movie_title"]).all()

    # With no champion before, the best learner becomes it, whichever that is.
    assert status.gate.verdict == "promoted"
    assert status.gate.reason
    found = champion(open_store(home))
    assert found is not None
    assert status.champion.version == str(found.version)
    assert status.champion.metrics["ndcg_at_10"] > 0.2

    summary = Path(str(status.paths.summary)).read_text(encoding="utf-8")
    assert status.gate.reason in summary
    assert status.dataset in summary
    assert Path(str(status.paths.data_docs)).is_file()


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_homes_and_threads_of_cleaning_do_not_change_a_byte(
    metarec, movielens: Path, tmp_path: Path
) -> None:
    """With tensors of a real size: small ones are never split between threads.

    Products of matrices round by how many threads share them, so that threads of training belong
    to what a training is known by, and one of another number is not taken over.
    """
    left: dict[str, tuple[list[bytes], dict[str, str]]] = {}
    keys: dict[str, str] = {}
    for name, training, cleaning in (("two", 2, 2), ("two-again", 2, 1), ("one", 1, 1)):
        home = tmp_path / name
        settings = [
            f"dataset.name={movielens}",
            f"training.threads={training}",
            f"cleaning.threads={cleaning}",
            "learners.gaussian.loop.epochs=3",
            "learners.amortised.loop.epochs=3",
        ]
        words = [word for pair in settings for word in ("--set", pair)]
        done = metarec.run(home, "run", "--json", "--date", "2026-03-02", *words)
        assert done.returncode == 0, done.stderr[-2000:]
        (trained,) = (home / "lake" / "train").glob("*/manifest.json")
        weights = [path.read_bytes() for path in sorted(trained.parent.rglob("*.safetensors"))]
        assert weights
        left[name] = weights, hash_files(home / "lists" / "latest" / "recommendations.parquet")
        keys[name] = trained.parent.name
    assert left["two"] == left["two-again"]
    assert keys["two"] == keys["two-again"] != keys["one"]
    # What both threads learned is the same to the eye: the same items, but for a few ties.
    rows = [
        pl.read_parquet(tmp_path / name / "lists" / "latest" / "recommendations.parquet")
        for name in ("two", "one")
    ]
    shared = rows[0].join(rows[1], on=["user_id", "item_id"], how="inner")
    assert len(shared) > 0.95 * len(rows[0])
