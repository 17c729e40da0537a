"""Whether a service answers, and whether its port is free."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

from flows.services.definitions import MLFLOW, PREFECT, WORK_POOL, WORKER_NAME, Service
from flows.services.process import Process, last_lines, log_file
from metarec_core.errors import ServiceError

_DEADLINE_SECONDS = 180.0
"""Servers take 5 to 15 s; the rest is for a machine that is busy. A death is seen at once."""
_POLL_SECONDS = 0.25
_BUSY_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Pauses before a request is sent again to a server that is too busy for it."""
# Past any proxy: the services listen on this machine only.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def call(url: str, body: Mapping[str, Any] | None = None, *, method: str | None = None) -> Any:
    """Send one request and return what the answer's JSON holds, None if it holds none.

    While others write its database for long, Prefect's server refuses with status 503 and has done
    nothing; like Prefect's own client this one asks again.

    Args:
        url: Address.
        body: Sent as JSON, by POST unless ``method`` says otherwise.
        method: HTTP method.

    Raises:
        urllib.error.HTTPError: If the server refuses.
        OSError: If nobody answers.
    """
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(  # noqa: S310 (only addresses of our own servers)
        url, data, {"Content-Type": "application/json"}, method=method
    )
    content = _answer(request)
    try:
        return json.loads(content)
    except ValueError:
        return None


def _answer(request: urllib.request.Request) -> bytes:
    for pause in _BUSY_SECONDS:
        try:
            return _sent(request)
        except urllib.error.HTTPError as refusal:
            if refusal.code != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            time.sleep(pause)
    return _sent(request)


def _sent(request: urllib.request.Request) -> bytes:
    with _opener.open(request, timeout=20) as answer:
        content: bytes = answer.read()
        return content


def healthy(service: Service, process: Process) -> bool:
    """Whether ``process`` lives and the service does its work."""
    if not process.alive:
        return False
    try:
        if service.name == PREFECT:
            return call(f"{process.url}/api/health") is True
        if service.name == MLFLOW:
            call(f"{process.url}/health")
            return True
        workers = call(f"{service.api}/work_pools/{WORK_POOL}/workers/filter", {})
    except OSError:
        return False
    # An earlier worker of this name counts as online for another minute and a half.
    return any(
        worker["name"] == WORKER_NAME
        and worker["status"] == "ONLINE"
        and _timestamp(worker["last_heartbeat_time"]) >= process.launched
        for worker in workers or ()
    )


def await_health(service: Service, process: Process, directory: Path) -> None:
    """Wait until the service does its work.

    Raises:
        ServiceError: If its process ends, or it does not answer in time; with the log's end.
    """
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not healthy(service, process):
        ended = not process.alive
        if ended or time.monotonic() > deadline:
            log = log_file(directory, service.name)
            raise ServiceError(
                f"service {service.name}",
                found=(
                    f"{'that it ended at once' if ended else 'no sign of health'}; "
                    f"its log {log} ends:\n{last_lines(log)}\n"
                ),
                wanted=f"it to answer within {_DEADLINE_SECONDS:.0f} s",
                next_step="repair what the log names, 'make down', then 'make up' again",
            )
        time.sleep(_POLL_SECONDS)


def require_free_port(service: Service) -> None:
    """Refuse to start a server whose port another process holds.

    Raises:
        ServiceError: If the port cannot be bound.
    """
    assert service.port is not None
    with socket.socket() as probe:
        # As the servers do: a port that a stopped server left a minute ago counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", service.port))
        except OSError as error:
            raise ServiceError(
                f"port {service.port} for {service.name}",
                found=f"that it cannot be bound: {error.strerror}",
                wanted="a free port",
                next_step=f"stop what holds it, or set {service.port_variable} to another port",
            ) from error


def _timestamp(text: str | None) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0
