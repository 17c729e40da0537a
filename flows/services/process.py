"""Background processes with a pid file and a log, which outlive the command that starts them."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from metarec_core.errors import ServiceError

TOKEN_VARIABLE = "METAREC_SERVICE_TOKEN"  # noqa: S105 (it marks a process, it opens nothing)
_PROC = Path("/proc")
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Process:
    """A started process, as its pid file describes it.

    Attributes:
        name: Name of the service.
        pid: Process id; the process leads its own session.
        started: When the kernel says it started. A process id is given out again after a while,
            a pair of id and start is not, so a foreign process is never taken for ours.
        token: Value of ``METAREC_SERVICE_TOKEN`` in its environment, which whatever it starts
            inherits, also into other process groups and beyond its own end.
        url: Address that it serves, empty if it serves none.
        launched: Unix time of its start.
    """

    name: str
    pid: int
    started: str
    token: str
    url: str
    launched: float

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return _start_of(self.pid) == self.started


def log_file(directory: Path, name: str) -> Path:
    """Where the process called ``name`` writes its output."""
    return directory / f"{name}.log"


def pid_file(directory: Path, name: str) -> Path:
    """Where the process called ``name`` is recorded."""
    return directory / f"{name}.pid"


def recorded(directory: Path, name: str) -> Process | None:
    """The process that the pid file names, alive or not; None without a readable file."""
    try:
        return Process(**json.loads(pid_file(directory, name).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        # Absent, cut short by a crash, or written by something else: it names no process of ours.
        return None


def launch(
    directory: Path,
    name: str,
    command: Sequence[str],
    *,
    url: str,
    environment: Mapping[str, str],
    cwd: Path,
) -> Process:
    """Start ``command`` in a session of its own and record it.

    The log starts anew; the one before is kept beside it as ``<name>.log.1``.

    Raises:
        ServiceError: If the command cannot be started.
    """
    log = log_file(directory, name)
    if log.exists():
        log.replace(log.with_name(f"{log.name}.1"))
    token = secrets.token_hex(16)
    launched = time.time()
    try:
        with log.open("wb") as output:
            child = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={**environment, TOKEN_VARIABLE: token},
                start_new_session=True,
            )
    except OSError as error:
        raise ServiceError(
            f"service {name}",
            found=f"{type(error).__name__}: {error}",
            wanted=f"{command[0]} to start",
            next_step="repair what the error names, then 'make up' again",
        ) from error
    process = Process(name, child.pid, _start_of(child.pid) or "", token, url, launched)
    # It is meant to outlive this command: keep Popen from complaining that nobody waited for it.
    child.returncode = 0
    file = pid_file(directory, name)
    staged = file.with_suffix(".tmp")
    staged.write_text(json.dumps(asdict(process)) + "\n", encoding="utf-8")
    staged.replace(file)
    return process


def stop(directory: Path, process: Process, *, patience_seconds: float = 20.0) -> None:
    """End ``process`` with everything it started, and forget it.

    Each is asked to end; what is still there after ``patience_seconds`` is killed.

    Raises:
        ServiceError: If something survives even that.
    """
    # All at once: a worker told alone would wait for its runs, and these report their own end.
    _end(_family(process), patience_seconds)
    left = _end(_family(process), patience_seconds)  # what was started in that moment
    if left:
        raise ServiceError(
            f"service {process.name}",
            found=f"processes {[member.pid for member in left]} that do not end",
            wanted="all of them gone",
            next_step="end them by hand, then run 'make down' again",
        )
    pid_file(directory, process.name).unlink(missing_ok=True)


def last_lines(log: Path, count: int = 15) -> str:
    """The last ``count`` lines of a log, or a remark that there is none."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "(no log)"
    return "\n".join(lines[-count:]) or "(an empty log)"


def _start_of(pid: int) -> str | None:
    """When the process started, as a text to compare; None if there is no such live process."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # otherwise a child of ours that ended stays as a zombie
    if not _PROC.is_dir():
        command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
        listing = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        state, _, started = listing.strip().partition(" ")
        return None if not state or state.startswith("Z") else started.strip()
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name stands in brackets and may itself hold blanks and brackets. After it: [0] the
    # state, [19] the start in clock ticks since boot.
    fields = text[text.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else fields[19]


def _family(process: Process) -> list[Process]:
    """The process and, where there is a /proc, every live process that carries its token."""
    mark = f"{TOKEN_VARIABLE}={process.token}".encode()
    family = [process]
    for entry in _PROC.iterdir() if _PROC.is_dir() else ():
        if not entry.name.isdecimal() or int(entry.name) in {os.getpid(), process.pid}:
            continue
        with suppress(OSError):  # it ended just now, or belongs to another user
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                pid = int(entry.name)
                family.append(replace(process, pid=pid, started=_start_of(pid) or ""))
    return family


def _end(members: Iterable[Process], patience_seconds: float) -> list[Process]:
    """Ask the members to end, kill those that do not, and return those that survive even that."""
    left = list(members)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for member in left:
            if member.alive:
                with suppress(ProcessLookupError):
                    os.kill(member.pid, number)
        deadline = time.monotonic() + patience_seconds
        while (left := [member for member in left if member.alive]) and (
            time.monotonic() < deadline
        ):
            time.sleep(_POLL_SECONDS)
    return left
