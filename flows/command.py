"""How a command of ``metarec`` runs a flow: its options, its errors, what it prints."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metarec_core.errors import MetarecError, ServiceError
from metarec_core.home import Home

if TYPE_CHECKING:
    from metarec_core.reporting.status import RunStatus

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="YAML file with any part of the settings tree.")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="A setting, such as training.threads=1.")
]
RunDate = Annotated[
    datetime | None,
    typer.Option("--date", formats=["%Y-%m-%d"], help="Run date; today by default."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

_STARTED = time.perf_counter()


def report(error: MetarecError) -> None:
    """Print an error, as JSON with --json."""
    if "--json" in sys.argv:
        body = {"kind": type(error).__name__, "message": str(error)}
        typer.echo(json.dumps({"error": body}, indent=2))
    typer.echo(f"error: {error}", err=True)


def run_flow(
    name: str,
    file: Path | None,
    overrides: list[str] | None,
    run_date: datetime | None,
    as_json: bool,
) -> RunStatus:
    """Run a flow in this process, in the servers of 'make up' if they run."""
    from metarec_core.config import parse_config, read_tree

    home = Home.from_environment()
    day = run_date.date() if run_date else None
    given = read_tree(file, overrides or [])
    _use_running_services(home)
    try:
        home.ensure()
        config = parse_config(given)
    except MetarecError as error:
        from flows.refused import record_refusal

        report(error)
        try:
            record_refusal(name, given, day, home)
        except ServiceError as unrecorded:
            typer.echo(f"The refused run is not recorded. {unrecorded}", err=True)
        raise SystemExit(error.exit_code) from None
    with _stdout_for_json_only(as_json):
        from flows.start import load_flow

        flow = load_flow(name, home)
        from tasks.night import command_started

        command_started.set(_STARTED)
        return flow(config, day)


def _use_running_services(home: Home) -> None:
    from flows.services import status as services

    running = {name: one for name, one in services(home).items() if one.state == "running"}
    if "prefect" in running:
        os.environ.setdefault("PREFECT_API_URL", f"{running['prefect'].url}/api")
    if "mlflow" in running:
        os.environ.setdefault("MLFLOW_TRACKING_URI", str(running["mlflow"].url))


@contextmanager
def _stdout_for_json_only(as_json: bool) -> Iterator[None]:
    """With --json whatever libraries write to standard output goes to standard error."""
    if not as_json:
        yield
        return
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


def finish(status: RunStatus, as_json: bool) -> None:
    """Print what a run did."""
    typer.echo(status.model_dump_json(indent=2) if as_json else f"\n{describe(status)}")


def describe(status: RunStatus) -> str:
    """A run's stages, verdict, warnings and places, as lines of text."""
    head = f"Run {status.run_id} ({status.flow} on {status.dataset}): {status.state}"
    lines = [f"{head} in {status.seconds:.0f} s, {status.overhead_seconds:.0f} s of it overhead"]
    for stage in status.stages:
        rows = "" if stage.rows_out is None else f"{stage.rows_in} -> {stage.rows_out} rows"
        state = "reused" if stage.reused else stage.state
        lines.append(f"  {stage.name:16} {state:10} {stage.seconds:7.1f} s  {rows}")
    if status.gate:
        said = " ".join(filter(None, (status.gate.reason, status.gate.remark)))
        lines.append(f"Gate: {status.gate.verdict}. {said}")
    if status.champion:
        lines.append(f"Champion: version {status.champion.version} ({status.champion.learner})")
    lines += [f"Warning: {warning}" for warning in status.warnings]
    if status.error:
        lines.append(f"Error in {status.error.stage or 'the run'}: {status.error.message}")
    places: dict[str, Any] = status.paths.model_dump(exclude_none=True)
    lines += [f"  {name:10} {place}" for name, place in places.items()]
    return "\n".join(lines)
