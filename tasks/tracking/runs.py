"""Runs: one a night, a nested one a stage, and an honest end for each."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import yaml
from mlflow.entities import Metric, Param, RunStatus, RunTag
from mlflow.utils.mlflow_tags import (
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NAME,
    MLFLOW_RUN_NOTE,
    MLFLOW_SOURCE_NAME,
)

from metarec_core.config import Config
from metarec_core.errors import MetarecError
from metarec_core.section import Section
from metarec_core.storage import MANIFEST, StageOutput, code_version
from tasks.tracking.interrupted import FLOW_RUN_TAG, PROCESS_TAG, end_interrupted
from tasks.tracking.lineage import Context, StageDataset, dataset_input
from tasks.tracking.naming import flat_numbers, flat_params, shortened
from tasks.tracking.process import ProcessMark
from tasks.tracking.store import TrackingStore

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BATCH = 100  # MLflow's limit of parameters and tags a call; metrics may be ten times as many.
_NOTE = 7900  # A tag holds 8,000 characters.
_FLUSH_SECONDS = 2.0
_FLUSH_METRICS = 500

_logger = logging.getLogger(__name__)


class TrackedRun:
    """A run that is open; as a context manager it ends as its block ended.

    FINISHED without an exception, FAILED with an ``Exception``, KILLED with anything else (an
    interrupt, a cancellation). Calls name the run explicitly: they work from any thread.

    Attributes:
        store: The store it lives in.
        run_id: MLflow's id.
    """

    def __init__(self, store: TrackingStore, run_id: str) -> None:
        self.store = store
        self.run_id = run_id
        self._pending: list[Metric] = []
        self._flushed = time.monotonic()

    @property
    def url(self) -> str | None:
        """Page of the run, or None when no server is known."""
        return self.store.run_url(self.run_id)

    def log_params(self, settings: Section | Mapping[str, Any]) -> None:
        """Log settings as dotted parameters; long values are cut and carry their hash."""
        params = [Param(name, value) for name, value in flat_params(settings).items()]
        with self.store.guarded("log parameters"):
            for start in range(0, len(params), _BATCH):
                self.store.client.log_batch(self.run_id, params=params[start : start + _BATCH])

    def log_metrics(self, values: Mapping[str, Any], *, step: int = 0) -> None:
        """Log every number in ``values``, nested ones as ``outer/inner``; other things are left.

        Names lose what MLflow refuses: ``ndcg@10`` becomes ``ndcg_at_10``.
        """
        now = _now_ms()
        metrics = [Metric(name, value, now, step) for name, value in flat_numbers(values).items()]
        self._send(metrics)

    def log_epoch(self, step: int, metrics: Mapping[str, float]) -> None:
        """Stream metrics while training; they are sent in batches, at most every 2 seconds.

        Best effort: hours of training are worth more than a curve that a server did not take.
        """
        now = _now_ms()
        self._pending += [
            Metric(name, value, now, step) for name, value in flat_numbers(metrics).items()
        ]
        waited = time.monotonic() - self._flushed
        if waited >= _FLUSH_SECONDS or len(self._pending) >= _FLUSH_METRICS:
            try:
                self.flush()
            except MetarecError as error:
                _logger.warning("metrics up to step %d were not logged: %s", step, error)

    def flush(self) -> None:
        """Send the metrics that :meth:`log_epoch` still holds."""
        pending, self._pending = self._pending, []
        self._flushed = time.monotonic()
        self._send(pending)

    def log_output(self, output: StageOutput) -> None:
        """Log a published stage: counts and facts as metrics, key and hash as tags, manifest."""
        self.set_tags(
            {
                "stage_key": output.key,
                "content_hash": output.content_hash,
                "path": str(output.path),
            }
        )
        self.log_metrics(
            {
                **output.facts,
                "rows_in": output.rows_in,
                "rows_out": output.rows_out,
                "seconds": output.seconds,
                "reused": output.reused,
            }
        )
        self.log_file(output.path / MANIFEST)

    def log_dataset(
        self, output: StageOutput, *, name: str, context: Context, table: str | None = None
    ) -> None:
        """Record that the run read ``output``, or its Parquet file ``table``, for ``context``."""
        entry = dataset_input(StageDataset(output, name, table), context)
        with self.store.guarded("log a dataset"):
            self.store.client.log_inputs(self.run_id, [entry])

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Log a file as an artifact."""
        with self.store.guarded(f"log {path.name}"):
            self.store.client.log_artifact(self.run_id, str(path), folder)

    def log_text(self, name: str, text: str) -> None:
        """Log ``text`` as the artifact ``name``."""
        with self.store.guarded(f"log {name}"):
            self.store.client.log_text(self.run_id, text, name)

    def describe(self, text: str) -> None:
        """Show Markdown at the head of the run's page; the end of a very long text is left out."""
        with self.store.guarded("describe a run"):
            self.store.client.set_tag(self.run_id, MLFLOW_RUN_NOTE, text[:_NOTE])

    def log_figure(self, name: str, figure: Figure) -> None:
        """Log a matplotlib figure as ``figures/<name>.png``."""
        with self.store.guarded(f"log figure {name}"):
            self.store.client.log_figure(self.run_id, figure, f"figures/{name}.png")

    def set_tags(self, tags: Mapping[str, str | None]) -> None:
        """Set tags; those without a value are left out."""
        entries = _tag_list(tags)
        with self.store.guarded("set tags"):
            for start in range(0, len(entries), _BATCH):
                self.store.client.log_batch(self.run_id, tags=entries[start : start + _BATCH])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.flush()
            self._end(RunStatus.FINISHED)
            return
        status = RunStatus.FAILED if issubclass(kind, Exception) else RunStatus.KILLED
        try:
            self._send(self._pending)
            self.set_tags({"error": shortened(f"{kind.__name__}: {error}")})
            self._end(status)
        except MetarecError as failure:
            # The block's own error is the one to hear about.
            _logger.warning("MLflow run %s could not be ended: %s", self.run_id, failure)

    def _end(self, status: int) -> None:
        with self.store.guarded("end a run"):
            self.store.client.set_terminated(self.run_id, RunStatus.to_string(status))

    def _send(self, metrics: list[Metric]) -> None:
        with self.store.guarded("log metrics"):
            for start in range(0, len(metrics), _FLUSH_METRICS):
                self.store.client.log_batch(
                    self.run_id, metrics=metrics[start : start + _FLUSH_METRICS]
                )


def night_run(
    store: TrackingStore,
    *,
    config: Config,
    run_date: date,
    flow_run_id: str | None = None,
    flow_run_url: str | None = None,
    tags: Mapping[str, str | None] | None = None,
) -> TrackedRun:
    """Open the one run of a night, with its resolved configuration.

    Runs that a killed process left RUNNING are first marked KILLED: those of this machine whose
    process is gone, earlier attempts of the same Prefect run, and runs of other machines (whose
    processes cannot be looked up) once they are older than a day.

    Args:
        store: Where to.
        config: Logged as dotted parameters and, whole, as ``config.yaml``.
        run_date: The night's date.
        flow_run_id: Prefect's run.
        flow_run_url: Its page.
        tags: More tags.
    """
    end_interrupted(store, flow_run_id)
    run = _start(
        store,
        str(run_date),
        {
            "kind": "night",
            "run_date": str(run_date),
            "dataset": config.dataset.name,
            "code_version": code_version(),
            FLOW_RUN_TAG: flow_run_id,
            "prefect.flow_run_url": flow_run_url,
            **(tags or {}),
        },
    )
    with _ended_on_error(run):
        run.log_params(config)
        run.log_text("config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    return run


def stage_run(
    store: TrackingStore,
    parent_id: str,
    stage: str,
    *,
    settings: Section | Mapping[str, Any] | None = None,
) -> TrackedRun:
    """Open a run nested in the night ``parent_id``.

    Args:
        store: Where to.
        parent_id: ``run_id`` of the night.
        stage: The stage's name, also the run's.
        settings: What the stage depends on, logged as parameters.
    """
    run = _start(store, stage, {"kind": "stage", "stage": stage, MLFLOW_PARENT_RUN_ID: parent_id})
    with _ended_on_error(run):
        run.log_params(settings or {})
    return run


def trial_run(
    store: TrackingStore, parent_id: str, number: int, values: Mapping[str, Any]
) -> TrackedRun:
    """Open a run nested in the tuning run ``parent_id``.

    Args:
        store: Where to.
        parent_id: ``run_id`` of the run that tunes.
        number: The trial's place in its study, from 0.
        values: What it tries, logged as parameters.
    """
    name = f"trial-{number:03d}"
    run = _start(store, name, {"kind": "trial", MLFLOW_PARENT_RUN_ID: parent_id})
    with _ended_on_error(run):
        run.log_params(values)
    return run


@contextmanager
def _ended_on_error(run: TrackedRun) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(run)
        yield
        stack.pop_all()


def _start(store: TrackingStore, name: str, tags: Mapping[str, str | None]) -> TrackedRun:
    own = {
        MLFLOW_RUN_NAME: name,
        MLFLOW_SOURCE_NAME: "metarec",
        PROCESS_TAG: str(ProcessMark.current()),
    }
    plain = {tag.key: tag.value for tag in _tag_list({**tags, **own})}
    with store.guarded("start a run"):
        run = store.client.create_run(store.experiment_id, tags=plain, run_name=name)
    return TrackedRun(store, run.info.run_id)


def _tag_list(tags: Mapping[str, str | None]) -> list[RunTag]:
    return [RunTag(name, value) for name, value in tags.items() if value is not None]


def _now_ms() -> int:
    return int(time.time() * 1000)
