"""Shared by whole nights: Prefect's harness, a stack with a worker, the command, a real dataset."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from prefect.testing.utilities import prefect_test_harness

from flows.services import down, up
from metarec_core.errors import DatasetError
from metarec_core.home import Home
from metarec_core.ingest.descriptor import bundled_descriptors, load_descriptor
from metarec_core.ingest.fetch import fetch


@pytest.fixture(scope="session")
def prefect() -> Iterator[None]:
    """A Prefect server of the tests' own, for flows that run in this process."""
    with prefect_test_harness(server_startup_timeout=180):
        yield


class Command:
    """The ``metarec`` command in a process of its own, as a user without servers runs it."""

    def environment(self, home: Path) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
        kept.pop("MLFLOW_TRACKING_URI", None)
        return kept | {"METAREC_HOME": str(home), "OMP_NUM_THREADS": "1"}

    def line(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "flows.cli", *words]

    def run(self, home: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """``more``: variables of the command's environment."""
        return subprocess.run(
            self.line(*words),
            env=self.environment(home) | more,
            capture_output=True,
            text=True,
            timeout=280,
        )

    def start(self, home: Path, *words: str) -> subprocess.Popen[bytes]:
        """In a session of its own: a kill of its group takes the server that it started along."""
        return subprocess.Popen(
            self.line(*words),
            env=self.environment(home),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


@pytest.fixture(scope="session")
def metarec() -> Command:
    """Runs the command."""
    return Command()


@pytest.fixture(scope="session")
def movielens(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Descriptor of 250 users of MovieLens 100K and the items they rated, in the set's format.

    The set is downloaded once and then found in pytest's cache: its licence keeps it out of the
    repository.
    """
    descriptor = load_descriptor("ml-100k")
    try:
        source = fetch(descriptor, Home(pytestconfig.cache.mkdir("metarec-home")))
    except DatasetError as error:
        pytest.fail(f"this test needs MovieLens 100K: {error}")
    target = tmp_path_factory.mktemp("ml-100k")
    users = {b"%d" % number for number in range(1, 251)}
    rated = {row[1] for row in _cut(source / "ml-100k.inter", target, users)}
    _cut(source / "ml-100k.user", target, users)
    _cut(source / "ml-100k.item", target, rated)
    tree = yaml.safe_load(bundled_descriptors()["ml-100k"].read_text(encoding="utf-8"))
    del tree["fetch"]
    own = target / "slice.yaml"
    own.write_text(yaml.safe_dump(tree | {"name": "ml-100k-slice"}, sort_keys=False))
    return own


def _cut(source: Path, target: Path, kept: set[bytes]) -> list[list[bytes]]:
    """Copy a table's header and the rows whose first cell is in ``kept``; return those rows."""
    header, *lines = source.read_bytes().splitlines(keepends=True)
    rows = [line for line in lines if line.partition(b"\t")[0] in kept]
    (target / source.name).write_bytes(b"".join([header, *rows]))
    return [row.split(b"\t") for row in rows]


@dataclass(frozen=True)
class Stack:
    """Running services of a home of their own."""

    home: Home
    prefect: str
    mlflow: str

    @property
    def api(self) -> str:
        return f"{self.prefect}/api"


@pytest.fixture
def free_ports(free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Free ports for Prefect and MLflow, set in the environment."""
    ports = free_port(), free_port()
    monkeypatch.setenv("METAREC_PREFECT_PORT", str(ports[0]))
    monkeypatch.setenv("METAREC_MLFLOW_PORT", str(ports[1]))
    return ports


@pytest.fixture(scope="session")
def stack(
    free_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
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
