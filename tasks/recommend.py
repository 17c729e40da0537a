"""Lists for every user from the champion, judged before they are published."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import prefect.runtime
import pyarrow.parquet as pq
import torch
from prefect import task
from prefect.logging import get_run_logger

from metarec_core.episodes.store import load_tasks
from metarec_core.ranking.lists import rank
from metarec_core.ranking.publication import LISTS, publish
from metarec_core.ranking.request import ListSettings
from metarec_core.serving.audience import audience_of
from metarec_core.serving.bundle import CATALOGUE, load_bundle
from metarec_core.storage import StageFacts, StageOutput
from metarec_core.training.device import pick_device
from tasks.findings import keep, options, read_report, say
from tasks.night import Night
from tasks.quality import fingerprint, validate_recommendations
from tasks.stage import COMPUTED, stage
from tasks.tracking import ChampionRef, download_bundle


@task(name="recommend", **COMPUTED)
def recommend_users(
    night: Night,
    cleaned: StageOutput,
    features: StageOutput,
    episodes: StageOutput,
    ruling: ChampionRef,
) -> StageOutput:
    """The champion's best unseen items of every user, published as the run date's lists.

    Raises:
        ValidationError: If a critical expectation does not hold; nothing is published.
    """
    recommend = night.config.recommend
    settings = {
        "k": recommend.k,
        "reasons": recommend.reasons,
        "run_date": str(night.run_date),
        "champion": ruling.content_hash,
        # Of the report beside the lists.
        "max_named_rows": night.config.validation.max_named_rows,
    }
    with stage(night, "recommend", settings) as running:

        def build(out: Path, scratch: Path) -> StageFacts:
            bundle = download_bundle(night.store, ruling, scratch)
            facts = _write_lists(night, cleaned, features, episodes, bundle, out / LISTS)
            _judge(night, cleaned, out, bundle / CATALOGUE)
            return facts

        inputs = [cleaned, features, episodes]
        output = running.build(build, inputs=inputs, fingerprint=fingerprint())
        if output.reused:
            say(night, read_report(output))
        place = _publish(night, output, ruling)
    night.record_paths(lists=str(place / LISTS))
    get_run_logger().info("recommend: published %s", place)
    return output


def _write_lists(
    night: Night,
    cleaned: StageOutput,
    features: StageOutput,
    episodes: StageOutput,
    bundle_directory: Path,
    target: Path,
) -> StageFacts:
    config = night.config
    torch.set_num_threads(config.training.threads)
    device = pick_device(config.training.device)
    bundle = load_bundle(bundle_directory, device)
    tasks = load_tasks(episodes.path, features.path)
    translation = audience_of(bundle, tasks, pl.read_parquet(cleaned.path / "users.parquet"))
    settings = ListSettings(
        k=config.recommend.k,
        reasons=config.recommend.reasons,
        tile_users=config.recommend.tile_users,
        candidates=translation.candidates,
    )
    rows = 0
    with ExitStack() as stack:
        writer: pq.ParquetWriter | None = None
        for frame in rank(
            bundle.learner,
            bundle.catalogue,
            translation.audience,
            settings,
            run_date=night.run_date,
            device=device,
        ):
            table = frame.to_arrow()
            if writer is None:
                writer = stack.enter_context(pq.ParquetWriter(target, table.schema))
            writer.write_table(table)
            rows += len(frame)
    return StageFacts(
        rows_in=tasks.data.n_users,
        rows_out=rows,
        facts={
            "users": tasks.data.n_users,
            "scale": asdict(bundle.scale),
            "candidates": len(translation.candidates),
            "unknown_items": translation.unknown_items,
            "ignored_interactions": translation.ignored_interactions,
        },
    )


def _judge(night: Night, cleaned: StageOutput, out: Path, catalogue: Path) -> None:
    report = validate_recommendations(
        out / LISTS,
        home=night.home,
        clean=cleaned.path,
        catalogue=catalogue,
        k=night.config.recommend.k,
        run_date=night.run_date,
        options=options(night),
    )
    keep(report, out)
    say(night, report)
    report.raise_if_critical()


def _publish(night: Night, output: StageOutput, ruling: ChampionRef) -> Path:
    flow_run_id: str | None = prefect.runtime.flow_run.id
    return publish(
        night.home.lists,
        output,
        run_id=night.run_id,
        run_date=night.run_date,
        today=datetime.now(UTC).astimezone().date(),
        origin={
            "mlflow_run_id": night.tracked.run_id,
            "prefect_flow_run_id": str(flow_run_id) if flow_run_id else None,
            "prefect_flow_run": night.status.paths.prefect,
            "model": {
                "uri": ruling.uri,
                "version": ruling.version,
                "dataset": ruling.dataset,
                "learner": ruling.learner,
                "content_hash": ruling.content_hash,
                "trained_for": ruling.run_date,
            },
        },
    )
