"""Published lists: a directory a run date, and ``latest``, for readers who come at any moment."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, date, datetime
from itertools import count
from pathlib import Path
from typing import Any

from metarec_core.schema import Columns
from metarec_core.storage import (
    MANIFEST,
    StageOutput,
    point_to,
    publishing,
    read_manifest,
    write_json,
)

LISTS = "recommendations.parquet"
LATEST = "latest"
VERSIONS = "versions"

_DATED = f"{Columns.RUN_DATE}="


def publish(
    lists: Path,
    output: StageOutput,
    *,
    run_id: str,
    run_date: date,
    today: date,
    origin: Mapping[str, Any],
) -> Path:
    """Put a stage's files where readers look, and return the directory of their run date.

    Each publication is a new directory under ``versions/`` that is written once, whole, and never
    changed; ``run_date=YYYY-MM-DD`` and ``latest`` are links that are replaced in one step. A
    reader, or a kill, finds the old lists or the new ones at any moment. Files are copied: what
    readers do to them does not reach the lake.

    ``latest`` leads to the newest run date that is not later than ``today``. A backfill of an
    older date is thus published beside the newest lists, and so is a date that was mistaken for a
    later one, until its day has come. Only where all dates are later does it lead to the newest.

    Args:
        lists: Where lists are published.
        output: The lists, judged.
        run_id: Metarec's id of the run, part of the version's name.
        run_date: Date of the lists.
        today: Date of publication.
        origin: What else the manifest is to say: runs, model.

    Raises:
        StorageError: If the version's directory cannot be made or renamed.
    """
    # A run that is tried again must not replace what a link may lead to already.
    names = (f"{run_id}-{output.key}-{number}" for number in count(1))
    version = next(lists / VERSIONS / name for name in names if not _taken(lists, name))
    with publishing(version) as directory:
        manifest = read_manifest(output.path)
        for name in manifest.files:
            shutil.copyfile(output.path / name, directory / name)
        write_json(
            directory / MANIFEST,
            manifest.model_dump(mode="json")
            | {
                "run_date": str(run_date),
                "run_id": run_id,
                "published_at": datetime.now(UTC).isoformat(),
                **origin,
            },
        )
    place = lists / f"{_DATED}{run_date}"
    point_to(place, version)
    point_to(lists / LATEST, _latest(lists, today))
    _sweep(lists)
    return place


def _taken(lists: Path, name: str) -> bool:
    return (lists / VERSIONS / name).exists()


def _latest(lists: Path, today: date) -> Path:
    # Dates in ISO form sort as text.
    dated = sorted(lists.glob(f"{_DATED}*"))
    come = [place for place in dated if place.name <= f"{_DATED}{today}"]
    return (come or dated)[-1]


def _sweep(lists: Path) -> None:
    """Remove versions that no run date points to any more, and what a kill left unfinished."""
    current = {place.resolve() for place in lists.glob(f"{_DATED}*")}
    for version in (lists / VERSIONS).iterdir():
        if version.resolve() not in current:
            shutil.rmtree(version, ignore_errors=True)
