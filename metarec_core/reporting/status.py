"""What a run has done so far, as one file that people and programs read."""

from __future__ import annotations

import fcntl
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from metarec_core.errors import StorageError
from metarec_core.home import Home
from metarec_core.storage import point_to, write_json

STATUS = "status.json"
State = Literal["running", "completed", "failed", "interrupted"]


class StageStatus(BaseModel):
    """One stage of a run."""

    model_config = ConfigDict(frozen=True)

    name: str
    state: State
    seconds: float
    reused: bool = False
    rows_in: int | None = None
    rows_out: int | None = None


class ChampionStatus(BaseModel):
    """The model in service after the run."""

    model_config = ConfigDict(frozen=True)

    version: str
    learner: str
    metrics: dict[str, float]


class GateStatus(BaseModel):
    """What the gate decided."""

    model_config = ConfigDict(frozen=True)

    verdict: str
    reason: str
    remark: str = ""
    """Which of the night's other learners the challenger is shown to beat."""


class ErrorStatus(BaseModel):
    """Why a run failed."""

    model_config = ConfigDict(frozen=True)

    kind: str
    stage: str | None
    message: str


class RunPaths(BaseModel):
    """Where a run's outputs are; null for what it did not reach."""

    model_config = ConfigDict(frozen=True)

    lists: str | None = None
    summary: str | None = None
    report: str | None = None
    data_docs: str | None = None
    benchmark: str | None = None
    tuning: str | None = None
    winner: str | None = None
    transfer: str | None = None
    mlflow: str | None = None
    prefect: str | None = None


class RunStatus(BaseModel):
    """A run: what ``metarec status --json`` prints."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    run_date: date
    flow: str
    dataset: str
    state: State
    started_at: datetime
    seconds: float = 0.0
    overhead_seconds: float = 0.0
    """Wall time that no stage accounts for: starting up, tracking, orchestration."""
    stages: list[StageStatus] = []
    champion: ChampionStatus | None = None
    gate: GateStatus | None = None
    warnings: list[str] = []
    error: ErrorStatus | None = None
    paths: RunPaths = RunPaths()

    def updated(self, **changes: Any) -> RunStatus:
        """A copy with some fields replaced."""
        return self.model_copy(update=changes)

    def with_stage(self, stage: StageStatus) -> RunStatus:
        """A copy in which ``stage`` replaces the one of its name, or comes last."""
        others = [known for known in self.stages if known.name != stage.name]
        return self.updated(stages=[*others, stage])


def run_directory(home: Home, run_id: str) -> Path:
    """Directory of a run."""
    return home.runs / run_id


def save_status(home: Home, status: RunStatus) -> None:
    """Write the run's ``status.json`` and let ``runs/latest`` point to it."""
    directory = run_directory(home, status.run_id)
    write_json(directory / STATUS, status)
    point_to(home.runs / "latest", directory)


def load_status(home: Home, run_id: str = "latest") -> RunStatus:
    """Read a run's status.

    A run that says "running" while nothing holds the home's lock was killed: it is shown as
    ``interrupted``, and so is its unfinished stage.

    Raises:
        StorageError: If there is no such run, or its file is damaged.
    """
    path = home.runs / run_id / STATUS
    try:
        status = RunStatus.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StorageError(
            f"status {path}",
            found="no run",
            wanted="a run of this home",
            next_step="start one with 'metarec demo' or 'metarec run', or set METAREC_HOME",
        ) from None
    except (OSError, ValueError) as error:
        raise StorageError(
            f"status {path}",
            found=f"{type(error).__name__}",
            wanted="a readable status.json",
            next_step="remove the directory of that run and run again",
        ) from error
    if status.state == "running" and not is_locked(home):
        return _interrupted(status)
    return status


def is_locked(home: Home) -> bool:
    """Whether a process is writing the home."""
    try:
        with home.lock.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _interrupted(status: RunStatus) -> RunStatus:
    stages = [
        stage.model_copy(update={"state": "interrupted"}) if stage.state == "running" else stage
        for stage in status.stages
    ]
    return status.updated(state="interrupted", stages=stages)
