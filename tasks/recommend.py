"""Lists for every user from the champion, judged before they are published."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import torch
from prefect import task
from prefect.logging import get_run_logger

from metarec_core.episodes.store import load_tasks
from metarec_core.home import Home
from metarec_core.ranking.lists import rank
from metarec_core.ranking.request import ListSettings
from metarec_core.schema import Columns
from metarec_core.serving.audience import audience_of
from metarec_core.serving.bundle import CATALOGUE, load_bundle
from metarec_core.storage import (
    MANIFEST,
    StageFacts,
    StageOutput,
    point_to,
    publishing,
    read_manifest,
    write_json,
)
from metarec_core.training.device import pick_device
from tasks.night import Night
from tasks.stage import COMPUTED, stage
from tasks.tracking import ChampionRef, download_bundle
from tasks.validate import check_lists

LISTS = "recommendations.parquet"


@task(name="recommend", **COMPUTED)
def recommend_users(
    night: Night,
    cleaned: StageOutput,
    features: StageOutput,
    episodes: StageOutput,
    ruling: ChampionRef,
) -> StageOutput:
    """The champion's best unseen items of every user, published as the run date's lists."""
    recommend = night.config.recommend
    settings = {
        "k": recommend.k,
        "reasons": recommend.reasons,
        "run_date": str(night.run_date),
        "champion": ruling.content_hash,
    }
    with stage(night, "recommend", settings) as running:

        def build(out: Path, scratch: Path) -> StageFacts:
            bundle = download_bundle(ruling, scratch)
            report = _write_lists(night, cleaned, features, episodes, bundle, out / LISTS)
            check_lists(night, out / LISTS, cleaned, bundle / CATALOGUE)
            return report

        output = running.build(build, inputs=[cleaned, features, episodes])
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
            "unknown_items": translation.unknown_items,
            "ignored_interactions": translation.ignored_interactions,
        },
    )


def _publish(night: Night, output: StageOutput, ruling: ChampionRef) -> Path:
    """Put the lists where readers look: a directory a run date, and ``latest``.

    Both names are links that are replaced in one step, so that a reader finds the old lists or
    the new ones, whole, at any moment.
    """
    lists = night.home.lists
    version = lists / "versions" / night.run_id
    with publishing(version) as directory:
        _link(output.path / LISTS, directory / LISTS)
        built = read_manifest(output.path)
        write_json(
            directory / MANIFEST,
            built.model_dump(mode="json")
            | {
                "run_date": str(night.run_date),
                "run_id": night.run_id,
                "published_at": datetime.now(UTC).isoformat(),
                "mlflow_run_id": night.tracked.run_id,
                "prefect_flow_run": night.status.paths.prefect,
                "model": {
                    "uri": ruling.uri,
                    "version": ruling.version,
                    "learner": ruling.learner,
                    "content_hash": ruling.content_hash,
                    "trained_for": ruling.run_date,
                },
            },
        )
    place = lists / f"{Columns.RUN_DATE}={night.run_date}"
    point_to(place, version)
    latest = lists / "latest"
    # A backfill of an older date is published beside the newest lists, not instead of them.
    if not latest.is_symlink() or latest.readlink().name <= place.name:
        point_to(latest, place)
    _sweep(lists)
    return place


def _sweep(lists: Path) -> None:
    """Remove versions that no run date points to any more."""
    current = {place.resolve() for place in lists.glob(f"{Columns.RUN_DATE}=*")}
    for version in (lists / "versions").iterdir():
        if version.resolve() not in current:
            shutil.rmtree(version, ignore_errors=True)


def published_lists(home: Home) -> Path:
    """The newest published lists; the file may not exist."""
    return home.lists / "latest" / LISTS


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
