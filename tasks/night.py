"""One run from its first stage to its summary: lock, tracking, status and an honest end."""

from __future__ import annotations

import fcntl
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import IO, Any

import prefect.runtime
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger

from metarec_core.config import Config
from metarec_core.errors import MetarecError, ServiceError
from metarec_core.home import Home
from metarec_core.reporting.status import (
    ErrorStatus,
    RunPaths,
    RunStatus,
    StageStatus,
    run_directory,
    save_status,
)
from metarec_core.storage import StageOutput, prune
from tasks.logs import shorten_expected_errors
from tasks.tracking import TrackedRun, TrackingStore, night_run, open_store

_LOCK_SECONDS = 2.0
"""A reader of the status holds the lock for a moment; a run holds it for longer than this."""

command_started: ContextVar[float | None] = ContextVar("command_started", default=None)
"""``time.perf_counter()`` at the start of a command, which counts as the start of its run."""


@dataclass(slots=True)
class Night:
    """A run in progress; every task is given it.

    Attributes:
        home: Where outputs go.
        config: All settings.
        run_date: The night's date.
        tracked: The night's MLflow run.
        status: What has been done so far; also on disk.
        outputs: Output of each finished stage, by name.
    """

    home: Home
    config: Config
    run_date: date
    tracked: TrackedRun
    status: RunStatus
    outputs: dict[str, StageOutput] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    @property
    def store(self) -> TrackingStore:
        """The tracking store."""
        return self.tracked.store

    @property
    def run_id(self) -> str:
        """Metarec's id of the run, also its directory's name."""
        return self.status.run_id

    def record(self, **changes: Any) -> None:
        """Replace fields of the status, bring its clock up to date, and write it."""
        seconds = time.perf_counter() - self.started
        staged = sum(stage.seconds for stage in self.status.stages)
        changes |= {"seconds": seconds, "overhead_seconds": max(seconds - staged, 0.0)}
        self.status = self.status.updated(**changes)
        save_status(self.home, self.status)

    def record_stage(self, stage: StageStatus) -> None:
        """Write what became of a stage."""
        self.status = self.status.with_stage(stage)
        self.record()

    def record_paths(self, **paths: str | None) -> None:
        """Add places to the status."""
        self.record(paths=self.status.paths.model_copy(update=paths))


@contextmanager
def night(
    flow: str, config: Config, run_date: date | None, *, dataset: str | None = None
) -> Iterator[Night]:
    """Open a run: take the home's lock, the MLflow run, and the status file.

    Whatever happens inside, the status and the MLflow run say so in the end.

    Args:
        flow: The flow's name.
        config: All settings.
        run_date: The night's date; None for that of the flow run.
        dataset: What is read, in words, by a run that reads another dataset than the configured.

    Raises:
        ServiceError: If another run is writing this home.
        StorageError: If the home cannot be written.
    """
    started = _start()
    shorten_expected_errors()
    home = Home.from_environment().ensure()
    home.apply_environment()
    run_date = run_date or _date_of_run()
    flow_run_id = prefect.runtime.flow_run.id
    flow_url = _page_of_run()
    run_id = f"{run_date}-{str(flow_run_id or uuid.uuid4())[:8]}"
    with _locked(home):
        store = open_store(home, ui=home.mlflow_ui)
        tracked = night_run(
            store,
            config=config,
            run_date=run_date,
            flow_run_id=str(flow_run_id) if flow_run_id else None,
            flow_run_url=flow_url,
            tags={"flow": flow, "metarec.run_id": run_id}
            | ({"dataset": dataset} if dataset else {}),
        )
        status = RunStatus(
            run_id=run_id,
            run_date=run_date,
            flow=flow,
            dataset=dataset or config.dataset.name,
            state="running",
            started_at=datetime.now(UTC),
            paths=RunPaths(mlflow=tracked.url or store.address, prefect=flow_url),
        )
        run = Night(home, config, run_date, tracked, status, started=started)
        run.record_paths(summary=str(run_directory(home, run_id) / "summary.md"))
        get_run_logger().info("Run %s; MLflow run %s", run_id, tracked.url or tracked.run_id)
        with tracked:
            try:
                yield run
            except BaseException as error:
                run.record(state="failed", error=_describe(error, run.status))
                raise
            run.record(state="completed")
        removed = prune(home, config.retention.outputs)
        if removed:
            get_run_logger().info("removed %d old stage outputs", len(removed))


@contextmanager
def _locked(home: Home) -> Iterator[None]:
    with home.lock.open("a+") as handle:
        deadline = time.monotonic() + _LOCK_SECONDS
        while not _take(handle):
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"home {home.root}",
                    found="another run is writing it",
                    wanted="one run at a time",
                    next_step="wait for that run ('metarec status'), or use another METAREC_HOME",
                )
            time.sleep(0.1)
        yield


def _take(handle: IO[str]) -> bool:
    # A lock of the kernel's goes with its process, however that ends.
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start() -> float:
    """When the run began: with the command, or when Prefect's engine took it up."""
    now = time.perf_counter()
    begun = command_started.get()
    if begun is not None:
        return begun
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow_run.start_time is None:
        return now
    return now - max((datetime.now(UTC) - context.flow_run.start_time).total_seconds(), 0.0)


def _date_of_run() -> date:
    scheduled: datetime | None = prefect.runtime.flow_run.scheduled_start_time
    return (scheduled or datetime.now(UTC)).astimezone().date()


def _page_of_run() -> str | None:
    # Without a server that has pages Prefect 3.8 makes an address out of "None".
    url: str | None = prefect.runtime.flow_run.ui_url
    return url if url and url.startswith("http") else None


def _describe(error: BaseException, status: RunStatus) -> ErrorStatus:
    failed = next((stage.name for stage in status.stages if stage.state == "failed"), None)
    text = str(error) if isinstance(error, MetarecError) else f"{type(error).__name__}: {error}"
    return ErrorStatus(kind=type(error).__name__, stage=failed, message=text)
