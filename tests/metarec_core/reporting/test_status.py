"""A run's status, also of a run that was killed."""

import fcntl
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from metarec_core.errors import StorageError
from metarec_core.home import Home
from metarec_core.reporting.status import (
    RunStatus,
    StageStatus,
    is_locked,
    load_status,
    save_status,
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").ensure()


def running() -> RunStatus:
    return RunStatus(
        run_id="2026-03-02-abc",
        run_date=date(2026, 3, 2),
        flow="nightly",
        dataset="shop",
        state="running",
        started_at=datetime(2026, 3, 2, 2, tzinfo=UTC),
        stages=[
            StageStatus(name="clean", state="completed", seconds=1.0),
            StageStatus(name="train", state="running", seconds=0.0),
        ],
    )


def test_a_run_whose_process_is_gone_was_interrupted(home: Home) -> None:
    save_status(home, running())
    home.lock.touch()
    found = load_status(home)
    assert found.state == "interrupted"
    assert [stage.state for stage in found.stages] == ["completed", "interrupted"]


def test_a_run_that_holds_the_lock_is_running(home: Home) -> None:
    save_status(home, running())
    with home.lock.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert is_locked(home)
        assert load_status(home) == running()
    assert not is_locked(home)


def test_a_stage_that_is_tried_again_stands_once(home: Home) -> None:
    again = running().with_stage(StageStatus(name="train", state="completed", seconds=9.0))
    assert [(stage.name, stage.state) for stage in again.stages] == [
        ("clean", "completed"),
        ("train", "completed"),
    ]


def test_a_damaged_file_is_named(home: Home) -> None:
    save_status(home, running())
    (home.runs / "latest" / "status.json").write_text("{")
    with pytest.raises(StorageError, match=r"status\.json"):
        load_status(home)
