"""Published lists: a directory a run date, and ``latest``, for readers who come at any moment.

Parquet files are always there; databases (:mod:`metarec_core.ranking.sinks`) are filled where
settings ask for them. Nothing is half published, because what is likely to fail comes before what
readers see:

1. the files of a new version are written whole, where nobody looks;
2. the rows of the run date are written to every sink, in a transaction that stays open;
3. the transactions are committed;
4. the links that readers follow are replaced, each in one step.

A sink that cannot be written ends this in 2: files, links and tables are as they were, the run
fails and says so. A kill between 3 and 4 leaves new tables and old links; a second run, which
finds the finished stage, does the same again, and the two agree.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import count
from pathlib import Path
from typing import Any

from metarec_core.errors import MetarecError
from metarec_core.ranking.sinks.base import Sink, Stamp
from metarec_core.ranking.sinks.open import replacing_in_all
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
"""A directory of shards, whose files together are one table."""
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
    model_version: str = "",
    sinks: Sequence[Sink] = (),
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
        model_version: Version of the registered model, for the rows of sinks.
        sinks: Databases to fill as well, before readers of files see anything.

    Raises:
        StorageError: If the version's directory cannot be made or renamed.
        ConfigError: If a sink's table has other columns.
        ServiceError: If a sink cannot be written; nothing is published.
    """
    # A run that is tried again must not replace what a link may lead to already.
    names = (f"{run_id}-{output.key}-{number}" for number in count(1))
    version = next(lists / VERSIONS / name for name in names if not _taken(lists, name))
    with publishing(version) as directory:
        manifest = read_manifest(output.path)
        for name in manifest.files:
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(output.path / name, directory / name)
        write_json(
            directory / MANIFEST,
            manifest.model_dump(mode="json")
            | {
                "run_date": str(run_date),
                "run_id": run_id,
                "published_at": datetime.now(UTC).isoformat(),
                "sinks": [sink.label for sink in sinks],
                **origin,
            },
        )
    stamp = Stamp(run_date, run_id, model_version, manifest.code_version)
    try:
        with replacing_in_all(sinks, shards_in(version / LISTS), stamp):
            pass
    except MetarecError:
        shutil.rmtree(version, ignore_errors=True)
        raise
    place = lists / f"{_DATED}{run_date}"
    point_to(place, version)
    point_to(lists / LATEST, _latest(lists, today))
    _sweep(lists)
    return place


def shards_in(lists: Path) -> list[Path]:
    """The files of published lists, in the order of their users."""
    return sorted(lists.glob("*.parquet"))


def earlier_lists(lists: Path, run_date: date) -> Path | None:
    """Directory of the newest published lists before a date; None where there are none."""
    dated = sorted(lists.glob(f"{_DATED}*"))
    earlier = [place for place in dated if place.name < f"{_DATED}{run_date}"]
    return earlier[-1] if earlier else None


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
