"""One stage: built or found again, timed, tracked and recorded."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging import get_run_logger
from prefect.tasks import Task

from metarec_core.errors import ServiceError
from metarec_core.reporting.status import StageStatus
from metarec_core.storage import Build, StageOutput, build_stage, hash_file, hash_json
from tasks.night import Night
from tasks.tracking import TrackedRun, stage_run


@dataclass(slots=True)
class Stage:
    """A stage in progress.

    Attributes:
        night: The run it belongs to.
        name: Its name: folder in the lake, run in MLflow, line in the status.
        settings: The settings it depends on; part of its key.
        tracked: Its MLflow run.
        output: What was built or found, once it was.
    """

    night: Night
    name: str
    settings: Mapping[str, Any]
    tracked: TrackedRun
    output: StageOutput | None = None

    def build(
        self, build: Build, *, inputs: Sequence[StageOutput] = (), fingerprint: str = ""
    ) -> StageOutput:
        """Build the output, or find what the same inputs built before; log it either way."""
        self.output = build_stage(
            self.night.home,
            self.name,
            settings=self.settings,
            inputs=inputs,
            fingerprint=hash_json([fingerprint, _tasks_version()]),
            build=build,
        )
        self.night.outputs[self.name] = self.output
        self.tracked.log_output(self.output)
        get_run_logger().info(
            "%s: %s in %.1f s, rows %s -> %s (%s)",
            self.name,
            "reused" if self.output.reused else "built",
            self.output.seconds,
            self.output.rows_in,
            self.output.rows_out,
            self.output.path,
        )
        return self.output


@contextmanager
def stage(night: Night, name: str, settings: Mapping[str, Any]) -> Iterator[Stage]:
    """Run a stage inside ``night``: MLflow run, timing, status."""
    started = time.perf_counter()
    night.record_stage(StageStatus(name=name, state="running", seconds=0.0))
    ended = None
    try:
        with stage_run(night.store, night.tracked.run_id, name, settings=settings) as tracked:
            running = Stage(night, name, settings, tracked)
            yield running
            output = running.output
            assert output is not None, f"stage {name} built nothing"
            # Its own work alone: tracking and registration are overhead, and are counted so.
            ended = StageStatus(
                name=name,
                state="completed",
                seconds=output.seconds,
                reused=output.reused,
                rows_in=output.rows_in,
                rows_out=output.rows_out,
            )
    finally:
        seconds = time.perf_counter() - started
        night.record_stage(ended or StageStatus(name=name, state="failed", seconds=seconds))


@cache
def _tasks_version() -> str:
    """Hash of the stages' own modules, which decide what is built as the core does."""
    return hash_json([hash_file(path) for path in sorted(Path(__file__).parent.glob("*.py"))])


def may_pass(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether a failure may be gone in a moment: a server, a lock; never bad data."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, (ServiceError, OSError))


RETRIED: dict[str, Any] = {
    "retries": 2,
    "retry_delay_seconds": [5, 30],
    "retry_condition_fn": may_pass,
    "cache_policy": NO_CACHE,
}
"""Options of tasks that talk to files and servers of others."""

COMPUTED: dict[str, Any] = {"cache_policy": NO_CACHE}
"""Options of tasks that compute: a second try would fail alike, and resuming is by stage key."""
