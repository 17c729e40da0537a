"""Which process a run belongs to, and whether it still lives."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessMark:
    """A process, told apart from a later one that got the same number.

    Attributes:
        host: Name of the machine or container.
        pid: Process id there.
        started: Start time in the kernel's ticks; empty where ``/proc`` does not exist.
    """

    host: str
    pid: int
    started: str

    @classmethod
    def current(cls) -> ProcessMark:
        """The mark of this process."""
        return cls(socket.gethostname(), os.getpid(), _start_ticks(os.getpid()) or "")

    @classmethod
    def parse(cls, text: str) -> ProcessMark | None:
        """The mark that ``str`` wrote, or None."""
        host, _, rest = text.partition(" ")
        pid, _, started = rest.partition(" ")
        return cls(host, int(pid), started) if host and pid.isdigit() else None

    def __str__(self) -> str:
        return f"{self.host} {self.pid} {self.started}"

    def is_here(self) -> bool:
        """Whether the process belongs to this machine."""
        return self.host == socket.gethostname()

    def is_alive(self) -> bool:
        """Whether the process still runs; only meaningful if it :meth:`is_here`."""
        if self.started:
            return _start_ticks(self.pid) == self.started
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def _start_ticks(pid: int) -> str | None:
    """Start time of a process; None if it is gone, a zombie, or there is no ``/proc``."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    # The second field is the command in parentheses and may hold spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else fields[19]
