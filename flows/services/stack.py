"""Start, stop and look at the three services of a home, in their order."""

from __future__ import annotations

import fcntl
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from flows.services.definitions import MLFLOW, PREFECT, WORKER, Service, services
from flows.services.deployments import crash_orphans, deploy, prepare_pool, watch_for_zombies
from flows.services.health import await_health, healthy, require_free_port
from flows.services.process import Process, launch, log_file, pid_file, recorded, stop
from metarec_core.home import Home

PROJECT = Path(__file__).resolve().parents[2]
"""The directory that holds ``deployments.yaml``, ``flows/`` and ``tasks/``."""

_ADDRESSES = "services.json"
_ORDER = (PREFECT, MLFLOW, WORKER)
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServiceState:
    """One service as it is now.

    Attributes:
        name: ``prefect``, ``mlflow`` or ``worker``.
        state: ``running``, ``starting`` (alive, not answering yet) or ``stopped``.
        pid: Process id, if it is alive.
        url: Address of its pages; the worker has none.
        log: File with its output.
    """

    name: str
    state: str
    pid: int | None
    url: str | None
    log: Path


def up(
    home: Home, project: Path = PROJECT, *, say: Callable[[str], None] = _logger.info
) -> dict[str, ServiceState]:
    """Start whatever is not running yet, deploy every deployment, and say where it all is.

    It may be called again at any time: what is healthy is left alone, and the deployments are
    brought up to date.

    Args:
        home: The home that the services keep their data, logs and pid files in.
        project: The directory that holds ``deployments.yaml``.
        say: Receives one line for each thing that was done.

    Returns:
        The state of each service by name.

    Raises:
        ServiceError: If a port is taken, a service does not become healthy, or a deployment is
            refused. What this call started is stopped again.
        StorageError: If the home cannot be written.
    """
    home.ensure()
    started: list[Process] = []
    with _only_one(home) as directory:
        try:
            known = services(home)
            for name in _ORDER:
                process = recorded(directory, name)
                if process is not None and not process.alive:
                    stop(directory, process)  # what it left behind may still hold its port
            for name in (PREFECT, MLFLOW):
                if recorded(directory, name) is None:
                    require_free_port(known[name])
            waiting = [_start(directory, known[name], started, say) for name in (PREFECT, MLFLOW)]
            for service, process in waiting:
                await_health(service, process, directory)
                say(f"{service.name}: {process.url}")
            addresses = {service.name: process.url for service, process in waiting}
            known = services(home, addresses)
            api = known[WORKER].api
            prepare_pool(api)
            for name in deploy(project, known[WORKER], directory):
                say(f"deployed {name}")
            watch_for_zombies(api)
            worker = recorded(directory, WORKER)
            if worker is not None and started:
                stop(directory, worker)  # it speaks to servers that are gone
                worker = None
            if worker is None:
                _report_orphans(api, say)
            service, process = _start(directory, known[WORKER], started, say)
            await_health(service, process, directory)
            say(f"{service.name}: takes runs")
        except BaseException:
            for process in reversed(started):
                stop(directory, process)
            raise
        state = _look(home)
        _write_addresses(directory, state)
    return state


def down(home: Home, *, say: Callable[[str], None] = _logger.info) -> None:
    """Stop what :func:`up` started, with the runs under way, and wait until all of it is gone.

    Raises:
        ServiceError: If a process survives.
    """
    if not home.services.is_dir():
        say("nothing was started")
        return
    with _only_one(home) as directory:
        known = _look(home)
        for name in reversed(_ORDER):
            process = recorded(directory, name)
            if process is None:
                pid_file(directory, name).unlink(missing_ok=True)
                say(f"{name}: was not running")
            else:
                was_alive = process.alive
                stop(directory, process)
                say(f"{name}: {'stopped' if was_alive else 'was not running'}")
            if name == WORKER and known[PREFECT].state == "running":
                _report_orphans(f"{known[PREFECT].url}/api", say)
        (directory / _ADDRESSES).unlink(missing_ok=True)


def status(home: Home) -> dict[str, ServiceState]:
    """The state of each service, by name."""
    return _look(home)


def _start(
    directory: Path, service: Service, started: list[Process], say: Callable[[str], None]
) -> tuple[Service, Process]:
    process = recorded(directory, service.name)
    if process is not None:
        say(f"{service.name}: already running")
        return service, process
    process = launch(
        directory,
        service.name,
        service.command,
        url=service.url,
        environment=service.environment,
        cwd=directory,
    )
    started.append(process)
    say(f"{service.name}: starting")
    return service, process


def _report_orphans(api: str, say: Callable[[str], None]) -> None:
    count = crash_orphans(api)
    if count:
        say(f"{count} unfinished flow run{'s' * (count > 1)} marked as Crashed")


def _look(home: Home) -> dict[str, ServiceState]:
    found = {}
    processes = {name: recorded(home.services, name) for name in _ORDER}
    addresses = {name: process.url for name, process in processes.items() if process is not None}
    known = services(home, addresses)
    for name, process in processes.items():
        log = log_file(home.services, name)
        if process is None or not process.alive:
            found[name] = ServiceState(name, "stopped", None, None, log)
        else:
            state = "running" if healthy(known[name], process) else "starting"
            found[name] = ServiceState(name, state, process.pid, process.url or None, log)
    return found


def _write_addresses(directory: Path, state: dict[str, ServiceState]) -> None:
    content = {name: {**asdict(one), "log": str(one.log)} for name, one in sorted(state.items())}
    staged = directory / f"{_ADDRESSES}.tmp"
    staged.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    staged.replace(directory / _ADDRESSES)


@contextmanager
def _only_one(home: Home) -> Iterator[Path]:
    """Hold the home's services for this command; a second one waits for the first."""
    home.services.mkdir(parents=True, exist_ok=True)
    with (home.services / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield home.services
