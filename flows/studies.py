"""Commands that study learners: compare them, search their settings, start one from another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.command import AsJson, ConfigFile, Overrides, finish, run_flow

if TYPE_CHECKING:
    from metarec_core.reporting.status import RunStatus


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
    status = run_flow("benchmark", config, [*(overrides or []), *settings], None, as_json)
    _print(status, Path(str(status.paths.benchmark)) / "benchmark", as_json)


def transfer(
    source: Annotated[str | None, typer.Option("--from", help="Dataset that teaches.")] = None,
    target: Annotated[str | None, typer.Option("--to", help="Dataset that is started.")] = None,
    place: Annotated[
        str | None, typer.Option("--data", help="Directory with a folder a dataset.")
    ] = None,
    fractions: Annotated[
        str | None, typer.Option(help="Shares of the target's users, separated by commas.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds, separated by commas.")] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Start a learner from what another dataset taught, and compare with learning from scratch."""
    words = {"source": source, "target": target, "data": place}
    given = {name: word and json.dumps(word) for name, word in words.items()}
    given |= {"fractions": fractions and f"[{fractions}]", "seeds": seeds and f"[{seeds}]"}
    settings = [f"transfer.{name}={value}" for name, value in given.items() if value]
    status = run_flow("transfer", config, [*(overrides or []), *settings], None, as_json)
    _print(status, Path(str(status.paths.transfer)) / "transfer", as_json)


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
    status = run_flow("tune", config, [*(overrides or []), *settings], None, as_json)
    _print(status, Path(str(status.paths.tuning)) / "tuning", as_json)


def _print(status: RunStatus, found: Path, as_json: bool) -> None:
    """What a study found: its one object on one line, so that it is the last, or its table."""
    if as_json:
        found_json = found.with_suffix(".json").read_text(encoding="utf-8")
        typer.echo(json.dumps(json.loads(found_json)))
        return
    typer.echo(found.with_suffix(".txt").read_text(encoding="utf-8"))
    finish(status, as_json)
