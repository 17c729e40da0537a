"""Runs that a killed process left open, and their late but honest end."""

from __future__ import annotations

import time

from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from tasks.tracking.process import ProcessMark
from tasks.tracking.store import TrackingStore

PROCESS_TAG = "metarec.process"
FLOW_RUN_TAG = "prefect.flow_run_id"

_ABANDONED_AFTER_MS = 24 * 3600 * 1000


def end_interrupted(store: TrackingStore, flow_run_id: str | None) -> None:
    """Mark KILLED what a killed process left RUNNING.

    That is: runs of this machine whose process is gone, earlier attempts of the same Prefect
    run, and runs of other machines, whose processes cannot be looked up, after a day. A night
    takes its stages along.

    Args:
        store: Where to look.
        flow_run_id: Prefect's run that is about to start.
    """
    with store.guarded("look for interrupted runs"):
        running = store.client.search_runs(
            [store.experiment_id],
            "attributes.status = 'RUNNING'",
            order_by=["attributes.start_time ASC"],
        )
        reasons: dict[str, str] = {}
        for run in running:
            parent = run.data.tags.get(MLFLOW_PARENT_RUN_ID, "")
            reason = _why_interrupted(run, flow_run_id) or reasons.get(parent)
            if reason is not None:
                reasons[run.info.run_id] = reason
                store.client.set_tag(run.info.run_id, "error", reason)
                store.client.set_terminated(run.info.run_id, "KILLED")


def _why_interrupted(run: Run, flow_run_id: str | None) -> str | None:
    mark = ProcessMark.parse(run.data.tags.get(PROCESS_TAG, ""))
    if mark is None or mark == ProcessMark.current():
        return None
    if mark.is_here():
        return None if mark.is_alive() else f"process {mark.pid} on {mark.host} is gone"
    if flow_run_id is not None and run.data.tags.get(FLOW_RUN_TAG) == flow_run_id:
        return "a later attempt of the same Prefect run has started"
    if int(time.time() * 1000) - run.info.start_time > _ABANDONED_AFTER_MS:
        return f"not ended within a day by {mark.host}"
    return None
