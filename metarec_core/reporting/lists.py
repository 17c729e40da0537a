"""Read one user's published list."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from metarec_core.episodes.types import ValueScale
from metarec_core.errors import DatasetError, StorageError
from metarec_core.home import Home
from metarec_core.ranking.publication import LISTS, shards_in
from metarec_core.ranking.short_lists import NOTHING_OPEN, SHORT_LISTS
from metarec_core.schema import Columns
from metarec_core.storage import MANIFEST


@dataclass(frozen=True, slots=True)
class PublishedList:
    """A user's list.

    Attributes:
        rows: Of ``RECOMMENDATIONS_SCHEMA``, best first.
        scale: What predicted values mean.
        directory: The publication that it is from, with its manifest.
    """

    rows: pl.DataFrame
    scale: ValueScale
    directory: Path


def read_list(home: Home, user_id: str, run_date: date | None = None) -> PublishedList:
    """A user's published list.

    Args:
        home: Where lists are published.
        user_id: Whose.
        run_date: Which night's; the newest by default.

    Raises:
        DatasetError: If nothing was published for that date, or not for that user.
    """
    name = f"{Columns.RUN_DATE}={run_date}" if run_date else "latest"
    path = home.lists / name / LISTS
    shards = shards_in(path)
    if not shards:
        dates = sorted(place.name.partition("=")[2] for place in home.lists.glob("run_date=*"))
        raise DatasetError(
            f"published lists {path}",
            found="no such lists",
            wanted=f"one of the run dates {', '.join(dates)}" if dates else "a finished run",
            next_step="leave out --date or name one of these" if dates else "run 'metarec demo'",
        )
    lists = pl.scan_parquet(shards, hive_partitioning=False)
    rows = lists.filter(pl.col(Columns.USER) == user_id).sort(Columns.RANK).collect()
    if rows.is_empty():
        _raise_without_list(path.parent / SHORT_LISTS, user_id)
        raise _unknown_user(path.as_posix(), lists, user_id)
    facts = read_publication(path.parent)["facts"]
    return PublishedList(rows, ValueScale.from_json(facts["scale"]), path.parent)


def read_publication(directory: Path) -> dict[str, Any]:
    """The manifest of published lists: rows, facts, run ids, model.

    Raises:
        StorageError: If it is missing or damaged.
    """
    path = directory / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(
            f"manifest {path}",
            found=type(error).__name__,
            wanted="a readable manifest.json",
            next_step="publish the lists again: 'metarec recommend'",
        ) from error
    return manifest


def _raise_without_list(notes: Path, user_id: str) -> None:
    """Say why a user of that night has no entry.

    Raises:
        DatasetError: If that is so.
    """
    if not notes.exists():
        return
    found = pl.scan_parquet(notes).filter(pl.col(Columns.USER) == user_id).collect()
    if found.is_empty():
        return
    raise DatasetError(
        f"user {user_id!r}",
        found=f"an empty list ({found['note'][0] or NOTHING_OPEN})",
        wanted="a user for whom something is left to recommend",
        next_step="loosen the rules (recommend.rules), or bring new items",
    )


def _unknown_user(path: str, lists: pl.LazyFrame, user_id: str) -> DatasetError:
    known = lists.select(pl.col(Columns.USER).unique().sort()).collect()[Columns.USER]
    close = difflib.get_close_matches(user_id, known.head(100_000).to_list(), n=3)
    return DatasetError(
        f"user {user_id!r}",
        found=f"no list in {path}",
        wanted=f"one of its {len(known)} users"
        + (f", such as {', '.join(close or known.head(3))}" if len(known) else ""),
        next_step="correct the id; for somebody new, ask the model itself: "
        "mlflow.pyfunc.load_model('models:/metarec@champion')",
    )
