"""Servers and worker: started once, watched, stopped with all that they started."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.error import HTTPError

import pytest
from prefect.events.schemas.automations import AutomationCore

from flows.services import down, status, up
from flows.services.definitions import MLFLOW, PREFECT, WORKER, services
from flows.services.deployments import zombie_automation
from flows.services.health import await_health, call, require_free_port
from flows.services.process import _family, launch, log_file, pid_file, recorded, stop
from metarec_core.errors import ServiceError
from metarec_core.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "home")
    yield home
    down(home)


def start(directory: Path, code: str, name: str = "probe", url: str = ""):
    return launch(
        directory,
        name,
        [sys.executable, "-c", code],
        url=url,
        environment=dict(os.environ),
        cwd=directory,
    )


def wait_for(condition, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def exists(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def test_a_process_is_recorded_and_stopped(tmp_path):
    process = start(tmp_path, "import time; print('hello', flush=True); time.sleep(60)")
    assert recorded(tmp_path, "probe") == process
    assert process.alive
    wait_for(lambda: "hello" in log_file(tmp_path, "probe").read_text())
    stop(tmp_path, process)
    assert not process.alive
    assert recorded(tmp_path, "probe") is None


def test_what_a_process_started_is_stopped_with_it_wherever_it_went(tmp_path):
    # As Prefect's worker does with its runs: a session of their own.
    process = start(
        tmp_path,
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],\n"
        "                         start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)",
    )
    wait_for(lambda: log_file(tmp_path, "probe").read_text().strip())
    child = int(log_file(tmp_path, "probe").read_text())
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: not process.alive)
    assert exists(child)
    stop(tmp_path, process)
    wait_for(lambda: not exists(child))


def test_a_process_that_ignores_the_request_is_killed(tmp_path):
    process = start(
        tmp_path,
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('deaf', flush=True)\n"
        "time.sleep(60)",
    )
    wait_for(lambda: "deaf" in log_file(tmp_path, "probe").read_text())
    stop(tmp_path, process, patience_seconds=0.5)
    assert not process.alive


def test_a_foreign_process_under_a_recorded_id_is_never_touched(tmp_path):
    process = start(tmp_path, "pass")
    wait_for(lambda: not process.alive)
    time.sleep(0.05)  # the kernel counts starts in hundredths of a second
    foreign = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        record = json.loads(pid_file(tmp_path, "probe").read_text()) | {"pid": foreign.pid}
        pid_file(tmp_path, "probe").write_text(json.dumps(record))
        taken = recorded(tmp_path, "probe")
        assert taken is not None
        assert not taken.alive
        stop(tmp_path, taken)
        assert foreign.poll() is None
    finally:
        foreign.kill()
        foreign.wait()


@pytest.mark.parametrize("content", ["", "{", "12", '{"pid": 1}', "[]"])
def test_a_damaged_pid_file_names_no_process(tmp_path, content):
    pid_file(tmp_path, "probe").write_text(content)
    assert recorded(tmp_path, "probe") is None


def test_a_service_that_ends_is_reported_with_the_end_of_its_log(tmp_path, free_ports):
    service = services(Home(tmp_path))[PREFECT]
    process = start(tmp_path, "raise SystemExit('the reason')", PREFECT, service.url)
    with pytest.raises(ServiceError) as error:
        await_health(service, process, tmp_path)
    assert "the reason" in str(error.value)
    assert str(log_file(tmp_path, PREFECT)) in str(error.value)


@pytest.mark.parametrize("refusals", [2, 99])
def test_a_server_that_is_too_busy_is_asked_again_and_not_for_ever(monkeypatch, refusals):
    monkeypatch.setattr("flows.services.health._BUSY_SECONDS", (0.0, 0.0, 0.0))
    asked = []

    class Busy(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(503 if len(asked) <= refusals else 200)
            self.end_headers()
            self.wfile.write(b'{"done": true}')

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        if refusals == 2:
            assert call(address, {"seconds": 1}) == {"done": True}
            assert asked == [b'{"seconds": 1}'] * 3
        else:
            with pytest.raises(HTTPError, match="503"):
                call(address, {})
            assert len(asked) == 4
        server.shutdown()


def test_a_taken_port_is_named_with_the_way_out(tmp_path, free_ports, project):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", free_ports[1]))
        holder.listen()
        with pytest.raises(ServiceError, match="METAREC_MLFLOW_PORT") as error:
            up(Home(tmp_path / "home"), project)
    assert str(free_ports[1]) in str(error.value)
    assert {one.state for one in status(Home(tmp_path / "home")).values()} == {"stopped"}


def test_a_free_port_is_accepted(tmp_path, free_ports):
    require_free_port(services(Home(tmp_path))[PREFECT])


@pytest.mark.parametrize("text", ["http", "0", "65536", "-1", "42.0"])
def test_a_port_that_is_none_is_refused(tmp_path, monkeypatch, text):
    monkeypatch.setenv("METAREC_PREFECT_PORT", text)
    with pytest.raises(ServiceError, match="METAREC_PREFECT_PORT"):
        services(Home(tmp_path))


def test_services_keep_to_their_home_and_are_silent(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    monkeypatch.setenv("PREFECT_HOME", "/elsewhere")
    home = Home(tmp_path)
    found = services(home)
    for service in found.values():
        assert service.environment["METAREC_HOME"] == str(tmp_path)
        assert service.environment["PREFECT_HOME"] == str(home.prefect)
        assert service.environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
        assert service.environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
        assert service.environment["DO_NOT_TRACK"] == "true"
        assert "elsewhere" not in str(dict(service.environment))
    assert found[WORKER].environment["MLFLOW_TRACKING_URI"] == found[MLFLOW].url
    assert found[WORKER].environment["PREFECT_API_URL"] == f"{found[PREFECT].url}/api"
    assert "MLFLOW_TRACKING_URI" not in found[MLFLOW].environment


def test_prefect_understands_every_key_of_the_automation():
    automation = zombie_automation()
    parsed = AutomationCore.model_validate(automation).model_dump(mode="json")
    for key, value in automation.items():
        if key == "trigger":
            for name, setting in value.items():
                understood = parsed[key][name]
                if isinstance(setting, list):
                    assert sorted(understood) == sorted(setting)
                else:
                    assert understood == setting
        elif key == "actions":
            assert [{name: one[name] for name in value[0]} for one in parsed[key]] == value
        else:
            assert parsed[key] == value


def test_nothing_started_is_nothing_to_stop(tmp_path):
    said: list[str] = []
    down(Home(tmp_path / "home"), say=said.append)
    assert said == ["nothing was started"]
    assert not (tmp_path / "home").exists()


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.timeout(900)
def test_up_twice_survive_a_kill_and_down(home, project, free_ports):
    first = up(home, project)
    assert {one.state for one in first.values()} == {"running"}
    assert first[PREFECT].url == f"http://127.0.0.1:{free_ports[0]}"
    assert first[MLFLOW].url == f"http://127.0.0.1:{free_ports[1]}"
    addresses = json.loads((home.services / "services.json").read_text())
    assert addresses[MLFLOW]["url"] == first[MLFLOW].url

    said: list[str] = []
    again = up(home, project, say=said.append)
    assert {name: one.pid for name, one in again.items()} == {
        name: one.pid for name, one in first.items()
    }
    assert said.count("prefect: already running") == 1

    api = f"{first[PREFECT].url}/api"
    nap = call(f"{api}/deployments/name/nap/nap")["id"]

    def run_for(seconds: float) -> str:
        parameters = {"parameters": {"seconds": seconds}}
        return call(f"{api}/deployments/{nap}/create_flow_run", parameters)["id"]

    def state(run: str) -> str:
        return call(f"{api}/flow_runs/{run}")["state_type"]

    # Worker and run are killed: the server finds out by itself, from the lost heartbeat.
    zombie = run_for(600)
    wait_for(lambda: state(zombie) == "RUNNING", 90)
    time.sleep(5)  # the first heartbeat is on its way
    for process in _family(recorded(home.services, WORKER)):
        os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: state(zombie) == "CRASHED", 240)
    assert status(home)[WORKER].state == "stopped"
    second = up(home, project)
    assert second[WORKER].state == "running"
    assert second[WORKER].pid != first[WORKER].pid
    assert second[PREFECT].pid == first[PREFECT].pid

    # Only the worker is killed: the next start ends the run that was left alone, and says so.
    orphan = run_for(600)
    wait_for(lambda: state(orphan) == "RUNNING", 90)
    os.kill(second[WORKER].pid, signal.SIGKILL)
    wait_for(lambda: status(home)[WORKER].state == "stopped")
    said.clear()
    third = up(home, project, say=said.append)
    assert "1 unfinished flow run marked as Crashed" in said
    assert state(orphan) == "CRASHED"

    # The new worker takes runs: the places of the crashed ones are free.
    short = run_for(0)
    wait_for(lambda: state(short) == "COMPLETED", 90)

    down(home)
    assert {one.state for one in status(home).values()} == {"stopped"}
    assert not any(exists(one.pid) for one in [*first.values(), *second.values(), *third.values()])
    for service in (PREFECT, MLFLOW):
        assert not pid_file(home.services, service).exists()
        require_free_port(services(home)[service])
    down(home)


@pytest.mark.slow
@pytest.mark.e2e
def test_a_failed_start_names_the_log_and_leaves_nothing_behind(home, project, free_ports):
    home.ensure()
    (home.mlflow / "mlflow.db").write_text("this is no database " * 100)
    with pytest.raises(ServiceError) as error:
        up(home, project)
    assert str(log_file(home.services, MLFLOW)) in str(error.value)
    assert "not a database" in str(error.value)
    assert {one.state for one in status(home).values()} == {"stopped"}


@pytest.mark.slow
@pytest.mark.e2e
def test_a_refused_deployment_names_the_log(home, project, free_ports):
    (project / "deployments.yaml").write_text(
        "deployments:\n"
        "  - {name: gone, entrypoint: 'flows/gone.py:gone', work_pool: {name: metarec}}\n"
    )
    with pytest.raises(ServiceError, match=r"deploy\.log"):
        up(home, project)
