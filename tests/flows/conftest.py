"""One stack of services for all tests that need a server with a worker."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.services import down, up
from metarec_core.home import Home


@dataclass(frozen=True)
class Stack:
    """Running services of a home of their own."""

    home: Home
    prefect: str
    mlflow: str

    @property
    def api(self) -> str:
        return f"{self.prefect}/api"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def free_ports(monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Free ports for Prefect and MLflow, set in the environment."""
    ports = free_port(), free_port()
    monkeypatch.setenv("METAREC_PREFECT_PORT", str(ports[0]))
    monkeypatch.setenv("METAREC_MLFLOW_PORT", str(ports[1]))
    return ports


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Prefect, MLflow and a worker with the project's own deployments, on free ports."""
    home = Home(tmp_path_factory.mktemp("stack") / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAREC_PREFECT_PORT", str(free_port()))
        patch.setenv("METAREC_MLFLOW_PORT", str(free_port()))
        states = up(home)
    try:
        yield Stack(home, states["prefect"].url or "", states["mlflow"].url or "")
    finally:
        down(home)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one deployed flow that sleeps as long as it is told."""
    root = tmp_path / "project"
    (root / "flows").mkdir(parents=True)
    (root / "flows" / "nap.py").write_text(
        "import time\n"
        "from prefect import flow\n"
        "@flow\n"
        "def nap(seconds: float = 0.0) -> None:\n"
        "    time.sleep(seconds)\n"
    )
    (root / "deployments.yaml").write_text(
        "pull:\n"
        "  - prefect.deployments.steps.set_working_directory:\n"
        '      directory: "{{ $METAREC_ROOT }}"\n'
        "deployments:\n"
        "  - name: nap\n"
        "    entrypoint: flows/nap.py:nap\n"
        "    work_pool: {name: metarec}\n"
        # So that a test of a lost run shows that its place is given back.
        "    concurrency_limit: 1\n"
    )
    return root
