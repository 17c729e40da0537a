"""How far long work is: a bar on a terminal, a bar in Prefect's pages, lines in the log."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

Told = Callable[[int, int, str], None]
"""Takes how much is done, of how much, and a note."""

_EVERY = 5.0
"""Per cent after which it is told again: each time is a request to the server."""


@contextmanager
def told_progress(name: str, *, key: str) -> Iterator[Told]:
    """Tell how far a part of a stage is; nothing appears before it is told for the first time.

    Args:
        name: What is done, such as ``training gaussian``.
        key: Key of the artifact in Prefect.
    """
    artifact: Any = None
    shown = 0.0
    columns = (TextColumn(name), BarColumn(), TextColumn("{task.fields[note]}"))
    bar = Progress(*columns, TimeRemainingColumn(), disable=not sys.stderr.isatty())
    line = bar.add_task(name, total=None, note="")

    def tell(done: int, total: int, note: str) -> None:
        nonlocal artifact, shown
        bar.update(line, total=total, completed=done, note=note)
        percent = 100.0 * done / max(total, 1)
        if artifact is None:
            artifact = create_progress_artifact(percent, key=key, description=f"{name}: {note}")
        elif percent - shown >= _EVERY:
            update_progress_artifact(artifact, percent, description=f"{name}: {note}")
        else:
            return
        shown = percent
        get_run_logger().info("%s: %s", name, note)

    with bar:
        yield tell
    if artifact is not None:
        update_progress_artifact(artifact, 100.0, description=f"{name}: done")
