"""What the services are: their commands, environments and addresses."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from metarec_core.errors import ServiceError
from metarec_core.home import Home

PREFECT, MLFLOW, WORKER = "prefect", "mlflow", "worker"
WORK_POOL = "metarec"
WORKER_NAME = "metarec"
HEARTBEAT_SECONDS = 30
"""How often a flow run says that it lives: the least that Prefect allows."""

_HOST = "127.0.0.1"
_PORTS = {PREFECT: ("METAREC_PREFECT_PORT", 4200), MLFLOW: ("METAREC_MLFLOW_PORT", 5000)}


@dataclass(frozen=True, slots=True)
class Service:
    """One service of a home.

    Attributes:
        name: Name; also of its pid file and log.
        command: Program and arguments.
        environment: The whole environment of its process.
        url: Address that it serves, empty for the worker.
        port: Port of that address.
        port_variable: The environment variable that chooses the port.
        api: Address of Prefect's API.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    url: str = ""
    port: int | None = None
    port_variable: str = ""
    api: str = ""


def services(home: Home, addresses: Mapping[str, str] | None = None) -> dict[str, Service]:
    """The services of ``home`` by name.

    Args:
        home: Where their data lives.
        addresses: Addresses of servers that run already; the others are made of the ports that
            ``METAREC_PREFECT_PORT`` and ``METAREC_MLFLOW_PORT`` give.

    Raises:
        ServiceError: If one of these is not a port.
    """
    ports = {name: _port(name) for name in _PORTS}
    urls = {name: f"http://{_HOST}:{port}" for name, port in ports.items()} | {
        name: url for name, url in (addresses or {}).items() if url
    }
    common = _environment(home)
    client = {
        **common,
        "PREFECT_API_URL": f"{urls[PREFECT]}/api",
        "PREFECT_UI_URL": urls[PREFECT],
    }
    return {
        PREFECT: Service(
            PREFECT,
            (
                *(sys.executable, "-m", "prefect", "server", "start"),
                *("--host", _HOST, "--port", str(ports[PREFECT])),
            ),
            # The pages ask port 4200 unless told otherwise, and show "Can't connect".
            {
                **client,
                "PREFECT_UI_API_URL": f"{urls[PREFECT]}/api",
                "PREFECT_SERVER_UI_API_URL": f"{urls[PREFECT]}/api",
                "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
                # The pages of version 2 call an analytics service whatever the settings say.
                "PREFECT_SERVER_UI_V2_ENABLED": "false",
            },
            urls[PREFECT],
            ports[PREFECT],
            _PORTS[PREFECT][0],
        ),
        MLFLOW: Service(
            MLFLOW,
            (
                *(sys.executable, "-m", "mlflow", "server"),
                *("--host", _HOST, "--port", str(ports[MLFLOW])),
                *("--backend-store-uri", f"sqlite:///{home.mlflow / 'mlflow.db'}"),
                # For experiments that others create through the server; metarec's own names its
                # directory itself, so that a run is found with and without a server.
                *("--serve-artifacts", "--artifacts-destination", str(home.mlflow / "artifacts")),
                *("--workers", "1"),  # the default of four takes four times as long to start
            ),
            {**common, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            urls[MLFLOW],
            ports[MLFLOW],
            _PORTS[MLFLOW][0],
        ),
        WORKER: Service(
            WORKER,
            (
                *(sys.executable, "-m", "prefect", "worker", "start"),
                *("--pool", WORK_POOL, "--type", "process", "--name", WORKER_NAME),
                # Two trainings on one machine slow each other ten times and more.
                *("--limit", "1"),
            ),
            {
                **client,
                "MLFLOW_TRACKING_URI": urls[MLFLOW],
                "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
            },
            api=f"{urls[PREFECT]}/api",
        ),
    }


def _environment(home: Home) -> dict[str, str]:
    """The caller's environment, tied to ``home`` and silent."""
    # Addresses and profiles of other set-ups must not leak into this one.
    foreign = ("PREFECT_API_URL", "PREFECT_PROFILE", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
    inherited = {name: value for name, value in os.environ.items() if name not in foreign}
    past_proxy = [inherited.get("NO_PROXY") or inherited.get("no_proxy") or "", _HOST, "localhost"]
    without_proxy = ",".join(part for part in past_proxy if part)
    return {
        **inherited,
        **home.environment(),
        "NO_PROXY": without_proxy,
        "no_proxy": without_proxy,
        "PYTHONUNBUFFERED": "1",  # a log that stops before the reason is no help
    }


def _port(name: str) -> int:
    variable, default = _PORTS[name]
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ServiceError(
            f"environment variable {variable}",
            found=repr(text),
            wanted="a port between 1 and 65535",
            next_step=f"set it to a free port, or unset it for {default}",
        )
    return int(text)
