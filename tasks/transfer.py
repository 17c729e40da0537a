"""Start the learner of one dataset from another: figures, document and the started model."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import torch
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from metarec_core.evaluation.protocols.corpus import find_dataset, read_corpus
from metarec_core.evaluation.transfer import study_transfer
from metarec_core.evaluation.transfer_table import (
    USERS_FILE,
    transfer_document,
    transfer_lines,
    transfer_rows,
    transfer_settings,
)
from metarec_core.ingest.descriptor import load_descriptor
from metarec_core.ingest.read import fingerprint
from metarec_core.reporting.markdown import block
from metarec_core.serving.bundle import save_bundle
from metarec_core.storage import StageFacts, StageOutput, write_json
from tasks.night import Night
from tasks.stage import COMPUTED, stage

DOCUMENT = "transfer.json"
TABLE = "transfer.txt"
FIGURES = "figures.parquet"
MODEL = "model"


@task(name="transfer", **COMPUTED)
def run_transfer(night: Night) -> StageOutput:
    """Rows, table and the started model of ``config.transfer``.

    Raises:
        DatasetError: If a dataset is missing, or the target too small.
        ModelError: If the datasets share nothing.
    """
    asked = night.config.transfer
    roots = {
        part: find_dataset(name, load_descriptor(name).name, Path(asked.data), night.home)
        for part, name in (("source", asked.source), ("target", asked.target))
    }
    names = {"source": asked.source, "target": asked.target}
    prints = [fingerprint(load_descriptor(names[part]), root) for part, root in roots.items()]
    with stage(night, "transfer", transfer_settings(night.config)) as running:
        output = running.build(
            lambda out, scratch: _transfer(night, roots, out, scratch),
            fingerprint="-".join(prints),
        )
        for file in sorted(path for path in output.path.iterdir() if path.is_file()):
            running.tracked.log_file(file)
        for row in pl.read_json(output.path / "rows.json").iter_rows(named=True):
            if row["k"] is None:
                key = f"{row['start'] or row['learner']}/{row['fraction']:g}/{row['metric']}"
                running.tracked.log_metrics({key: row["value"], f"{key}/ratio": row["ratio"]})
    night.record_paths(transfer=str(output.path))
    text = (output.path / TABLE).read_text(encoding="utf-8")
    summary = Path(str(night.status.paths.summary))
    summary.parent.mkdir(parents=True, exist_ok=True)
    summary.write_text(f"# Transfer\n\n{block(text)}\n", encoding="utf-8")
    night.tracked.describe(block(text))
    create_markdown_artifact(block(text), key="transfer", description="Transfer")
    return output


def _transfer(night: Night, roots: dict[str, Path], out: Path, scratch: Path) -> StageFacts:
    config = night.config
    asked = config.transfer
    torch.set_num_threads(config.training.threads)
    corpora = {
        part: read_corpus(name, roots[part], scratch / part, config.cleaning)
        for part, name in (("source", asked.source), ("target", asked.target))
    }
    found = study_transfer(
        corpora["source"], corpora["target"], config, lambda line: get_run_logger().info(line)
    )
    rows = transfer_rows(
        found.figures,
        asked.learner,
        seed=config.seed,
        resamples=asked.resamples,
        confidence=asked.confidence,
    )
    made = transfer_document(config, corpora, found, rows)
    write_json(out / DOCUMENT, made)
    write_json(out / "rows.json", rows)
    write_json(out / USERS_FILE, found.test_users)
    (out / TABLE).write_text("\n".join(transfer_lines(made)), encoding="utf-8")
    found.figures.write_parquet(out / FIGURES)
    save_bundle(found.bundle, out / MODEL)
    return StageFacts(
        rows_in=sum(len(corpus.interactions) for corpus in corpora.values()),
        rows_out=len(rows),
        facts={name: float(value) for name, value in found.shared.items()},
    )
