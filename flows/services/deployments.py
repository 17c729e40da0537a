"""What is set up on a running Prefect server: work pool, deployments, watch for zombies."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
from pathlib import Path
from typing import Any

import yaml

from flows.services.definitions import HEARTBEAT_SECONDS, WORK_POOL, Service
from flows.services.health import call
from flows.services.process import last_lines, log_file
from metarec_core.errors import ServiceError

DEPLOYMENTS = "deployments.yaml"
ROOT_VARIABLE = "METAREC_ROOT"
"""Names the project's directory while deploying; the pull step in the file refers to it."""

_DEADLINE_SECONDS = 300
_MISSED_HEARTBEATS = 3


def prepare_pool(api: str) -> None:
    """Create the work pool unless it exists.

    Raises:
        ServiceError: If the server refuses.
    """
    pool = {
        "name": WORK_POOL,
        "type": "process",
        "description": "Runs on the machine that 'make up' was called on.",
    }
    try:
        call(f"{api}/work_pools/", pool)
    except urllib.error.HTTPError as error:
        if error.code != 409:  # it exists
            raise _refused("work pool", error) from error


def deploy(project: Path, worker: Service, directory: Path) -> list[str]:
    """Deploy everything in ``project``'s file and return the names, ``flow/deployment``.

    Raises:
        ServiceError: If there is no such file, or Prefect refuses a deployment.
    """
    file = project / DEPLOYMENTS
    if not file.is_file():
        raise ServiceError(
            f"deployments file {file}",
            found="no such file",
            wanted="the project's directory with its deployments",
            next_step="run metarec from a clone, installed by 'make' (an editable installation)",
        )
    log = log_file(directory, "deploy")
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy"]
    with log.open("wb") as output:
        try:
            code = subprocess.run(
                [*command, "--prefect-file", DEPLOYMENTS, "--all"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=project,
                env={**worker.environment, ROOT_VARIABLE: str(project)},
                timeout=_DEADLINE_SECONDS,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            code = -1
    # With --all a deployment that fails is reported and passed over: ask for each.
    wanted = [entry["name"] for entry in yaml.safe_load(file.read_text("utf-8"))["deployments"]]
    found = _deployed(worker.api)
    missing = sorted(set(wanted) - set(found))
    if code != 0 or missing:
        raise ServiceError(
            f"deployments in {file}",
            found=f"{f'{missing} missing' if missing else f'exit code {code}'}; "
            f"the log {log} ends:\n{last_lines(log)}\n",
            wanted="every deployment accepted",
            next_step="repair what the log names, then 'make up' again",
        )
    return [found[name] for name in wanted]


def watch_for_zombies(api: str) -> None:
    """Have the server mark a flow run as Crashed once its heartbeat is lost, and free its slot.

    Without it a run whose machine or worker was killed stays Running, and the night after waits
    for its place.

    Raises:
        ServiceError: If the server refuses.
    """
    automation = zombie_automation()
    filters = {"automations": {"name": {"any_": [automation["name"]]}}}
    try:
        existing = call(f"{api}/automations/filter", filters)
        if existing:
            call(f"{api}/automations/{existing[0]['id']}", automation, method="PUT")
        else:
            call(f"{api}/automations/", automation)
    except urllib.error.HTTPError as error:
        raise _refused("automation", error) from error


def crash_orphans(api: str) -> int:
    """Mark the pool's unfinished runs as Crashed, and return how many there were.

    To be called only while no worker is alive: then no process is behind any of them.

    Raises:
        ServiceError: If the server refuses.
    """
    unfinished = {
        "work_pools": {"name": {"any_": [WORK_POOL]}},
        "flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}},
    }
    crashed = {
        "state": {"type": "CRASHED", "message": "the worker was stopped while this run was on"},
        "force": True,
    }
    try:
        runs = call(f"{api}/flow_runs/filter", unfinished)
        for run in runs:
            call(f"{api}/flow_runs/{run['id']}/set_state", crashed)
    except urllib.error.HTTPError as error:
        raise _refused("unfinished flow runs", error) from error
    return len(runs)


def zombie_automation() -> dict[str, Any]:
    """The automation behind :func:`watch_for_zombies`, as Prefect's API takes it."""
    heartbeat = "prefect.flow-run.heartbeat"
    ends = ["Completed", "Failed", "TimedOut", "Cancelled", "Crashed", "Paused", "Suspended"]
    return {
        "name": "metarec: a run without heartbeat has crashed",
        "description": (
            f"A flow run says every {HEARTBEAT_SECONDS} s that it lives. Once it has missed "
            f"{_MISSED_HEARTBEATS} times, its process is gone: it counts as Crashed and leaves "
            "its place to the next."
        ),
        "enabled": True,
        "trigger": {
            "type": "event",
            "posture": "Proactive",
            "match": {"prefect.resource.id": "prefect.flow-run.*"},
            # Runs outside of the pool, such as those of the command line, beat slower.
            "match_related": {
                "prefect.resource.role": "work-pool",
                "prefect.resource.name": WORK_POOL,
            },
            "for_each": ["prefect.resource.id"],
            "after": [heartbeat],
            "expect": [heartbeat, *(f"prefect.flow-run.{end}" for end in ends)],
            "threshold": 1,
            "within": HEARTBEAT_SECONDS * _MISSED_HEARTBEATS,
        },
        "actions": [
            {
                "type": "change-flow-run-state",
                "state": "CRASHED",
                "message": "no heartbeat: the process of this run is gone",
            }
        ],
    }


def _deployed(api: str) -> dict[str, str]:
    """Full names of the deployments that the server knows, by deployment name."""
    found = call(f"{api}/deployments/filter", {"limit": 200})
    flows = {flow["id"]: flow["name"] for flow in call(f"{api}/flows/filter", {"limit": 200})}
    return {one["name"]: f"{flows[one['flow_id']]}/{one['name']}" for one in found}


def _refused(what: str, error: urllib.error.HTTPError) -> ServiceError:
    return ServiceError(
        f"{what} on the Prefect server",
        found=f"HTTP {error.code}: {error.read().decode(errors='replace')[:500]}",
        wanted="the server to accept it",
        next_step="look into the log of the Prefect server, then 'make up' again",
    )
