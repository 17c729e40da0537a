"""Run a protocol: read its data, fit and judge its learners, publish rows and report."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import torch
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from metarec_core.config import Config
from metarec_core.evaluation.protocols.corpus import Corpus, find_dataset, read_corpus
from metarec_core.evaluation.protocols.document import (
    USERS_FILE,
    document,
    learners_of,
    settings,
    user_lists,
)
from metarec_core.evaluation.protocols.duels import duels
from metarec_core.evaluation.protocols.registry import PROTOCOLS
from metarec_core.evaluation.protocols.run import Progress as Told
from metarec_core.evaluation.protocols.run import run_studies
from metarec_core.evaluation.protocols.table import rows
from metarec_core.ingest.descriptor import load_descriptor
from metarec_core.ingest.read import fingerprint
from metarec_core.learners.modes import unlabelled
from metarec_core.reporting.benchmark import benchmark_lines, benchmark_report
from metarec_core.reporting.benchmark_figures import (
    accuracy_against_time,
    accuracy_by_support,
    calibration_by_state,
)
from metarec_core.reporting.figures import save_figure
from metarec_core.storage import StageFacts, StageOutput, write_json
from metarec_core.training.device import pick_device
from tasks.night import Night
from tasks.stage import COMPUTED, stage

DOCUMENT = "benchmark.json"
TABLE = "benchmark.txt"
REPORT = "report.md"
ROWS = "rows.parquet"


@task(name="benchmark", **COMPUTED)
def run_protocol(night: Night) -> StageOutput:
    """Rows, report and user lists of the configured protocol.

    A learner that fails is left out and named in the warnings of the run.

    Raises:
        DatasetError: If a dataset is missing.
    """
    config = night.config
    spec = PROTOCOLS[config.benchmark.protocol]
    roots = {
        name: find_dataset(name, folder, Path(config.benchmark.data), night.home)
        for name, folder in spec.datasets.items()
    }
    prints = [fingerprint(load_descriptor(name), root) for name, root in roots.items()]
    with stage(night, "benchmark", settings(config)) as running:
        output = running.build(
            lambda out, scratch: _compare(config, roots, out, scratch),
            fingerprint="-".join(prints),
        )
        made = read_document(output.path)
        for file in sorted(output.path.iterdir()):
            running.tracked.log_file(file)
        running.tracked.log_metrics(_headline(made, spec.headline))
        night.tracked.log_metrics({"benchmark": _headline(made, spec.headline)})
    night.record(
        warnings=[
            f"{one['learner']} failed in {one['study']} and is left out: {one['message']}"
            for one in made["failures"]
        ]
    )
    night.record_paths(benchmark=str(output.path))
    _tell(night, output.path)
    return output


def read_document(place: Path) -> dict[str, Any]:
    """The document that a benchmark wrote into ``place``."""
    found: dict[str, Any] = json.loads((place / DOCUMENT).read_text(encoding="utf-8"))
    return found


def _compare(config: Config, roots: dict[str, Path], out: Path, scratch: Path) -> StageFacts:
    torch.set_num_threads(config.training.threads)
    asked = config.benchmark
    spec = PROTOCOLS[asked.protocol]
    corpora: dict[str, Corpus] = {
        name: read_corpus(name, root, scratch, config.cleaning) for name, root in roots.items()
    }
    with _bars() as told:
        results = run_studies(
            spec.studies(corpora, asked),
            {name: getattr(config.learners, name) for name in learners_of(config)},
            device=pick_device(config.training.device),
            max_support=config.episodes.max_support,
            max_query=config.episodes.max_query,
            progress=told,
        )
    found, fought = (
        judge(results, seed=config.seed, resamples=asked.resamples, confidence=asked.confidence)
        for judge in (rows, duels)
    )
    made = document(config, corpora, results, found, fought)
    write_json(out / DOCUMENT, made)
    write_json(out / USERS_FILE, user_lists(results))
    (out / TABLE).write_text("\n".join(benchmark_lines(made, spec.headline)), encoding="utf-8")
    figures = _draw(made, spec.headline, out)
    text = benchmark_report(made, spec.headline, figures)
    (out / REPORT).write_text(text, encoding="utf-8")
    pl.DataFrame(found, infer_schema_length=None).write_parquet(out / ROWS)
    return StageFacts(
        rows_in=sum(len(corpus.interactions) for corpus in corpora.values()),
        rows_out=len(found),
        facts={"failures": len(results.failures)},
    )


def _draw(made: dict[str, Any], headline: tuple[str, ...], out: Path) -> list[str]:
    # Modes of a learner are rows of the table: lines of their own would hide the others.
    plain = [row for row in made["rows"] if row["learner"] == unlabelled(row["learner"])]
    made = made | {"rows": plain}
    drawn = {
        "accuracy.png": accuracy_by_support(made, headline),
        "calibration.png": calibration_by_state(made),
        "time.png": accuracy_against_time(made, headline),
    }
    shown = {name: figure for name, figure in drawn.items() if figure is not None}
    for name, figure in shown.items():
        save_figure(figure, out / name)
    return list(shown)


def _headline(made: dict[str, Any], metrics: tuple[str, ...]) -> dict[str, float]:
    return {
        "/".join(
            part
            for part in (
                row["learner"],
                (row["state"] or "cost").replace("@", "-"),
                "" if row["k"] is None else f"k{row['k']}",
                row["metric"],
            )
            if part
        ): row["value"]
        for row in made["rows"]
        if row["metric"] in metrics or row["state"] is None
        if ":" not in (row["state"] or "")
    }


def _tell(night: Night, place: Path) -> None:
    text = (place / REPORT).read_text(encoding="utf-8")
    summary = Path(str(night.status.paths.summary))
    summary.parent.mkdir(parents=True, exist_ok=True)
    summary.write_text(text, encoding="utf-8")
    night.tracked.describe(text)
    get_run_logger().info("report: %s", place / REPORT)
    create_markdown_artifact(text, key="benchmark", description="Benchmark")


@contextmanager
def _bars() -> Iterator[Told]:
    """A bar a learner and study on a terminal, a line each in the log."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    bars = Progress(*columns, disable=not sys.stderr.isatty())
    lines: dict[tuple[str, str], Any] = {}

    def told(study: str, learner: str, share: float) -> None:
        key = (study, learner)
        if key not in lines:
            lines[key] = bars.add_task(f"{study}: {learner}", total=1.0)
        bars.update(lines[key], completed=share)
        if share >= 1.0:
            bars.stop_task(lines[key])
            get_run_logger().info("%s: %s done", study, learner)

    with bars:
        yield told
