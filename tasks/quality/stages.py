"""Which suites judge a stage's directory, and with which parameters."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from metarec_core.cleaning.interactions import EARLIEST_TIME, LATEST_TIME
from metarec_core.episodes.types import ValueScale
from metarec_core.home import Home
from metarec_core.schema import Table
from tasks.quality.judge import DEFAULT_OPTIONS, Options, judge
from tasks.quality.report import QualityReport

DAY = 86_400.0
"""Seconds."""

SOURCES = (Table.INTERACTIONS, Table.USERS, Table.ITEMS)

LIST_LENGTHS = """
SELECT users.user_id, least(parameters.k, whole.n - coalesce(history.n, 0)) AS length
FROM users
LEFT JOIN (
    SELECT user_id, count(DISTINCT item_id) AS n
    FROM interactions SEMI JOIN catalogue USING (item_id) SEMI JOIN items USING (item_id)
    GROUP BY user_id
) AS history USING (user_id)
CROSS JOIN (SELECT count(*) AS n FROM catalogue SEMI JOIN items USING (item_id)) AS whole
CROSS JOIN parameters
"""
"""Length of each user's list: k, or every candidate the user has not seen if those are fewer.
Candidates are items of the model's catalogue that tonight's tables still hold."""

_EXCUSED = "SELECT user_id FROM short_lists WHERE entries = 0 AND note IS NOT NULL"
_NOBODY = "SELECT user_id FROM users WHERE false"


@dataclass(frozen=True, slots=True)
class Minimums:
    """Fewest rows, users and items that are worth training on."""

    rows: int = 10
    users: int = 2
    items: int = 2


def validate_tables(
    stage_dir: Path,
    kind: Literal["raw", "clean"],
    *,
    home: Home,
    scale: ValueScale,
    as_of: float,
    max_age_days: float | None = None,
    tolerated_fraction: float = 0.0,
    minimums: Minimums = Minimums(),
    options: Options = DEFAULT_OPTIONS,
) -> QualityReport:
    """Judge the tables of an ingest (``raw``) or a clean stage.

    Args:
        stage_dir: Directory with ``interactions.parquet``, and ``users.parquet`` and
            ``items.parquet``; raw data may lack those two.
        kind: Which suites: cleaning repairs part of what raw data may hold, so that a repeated
            pair is a warning in the one and critical in the other.
        home: Where Data Docs are published.
        scale: Legal values of interactions.
        as_of: Now, or the run's date, in seconds since the epoch. Raw timestamps more than a day
            later are implausible; the day allows for clocks and time zones. Cleaned ones need only
            keep the bounds that cleaning enforces.
        max_age_days: Oldest that the newest interaction may be; None: not judged.
        tolerated_fraction: Share of raw rows that may lack an id or a value, or have a value off
            the scale (cleaning drops and counts them).
        minimums: Fewest rows, users and items.
        options: Limits, and whether Data Docs are published.

    Raises:
        StorageError: If a table or the home cannot be read or written.
    """
    tables = {
        str(table): path
        for table in SOURCES
        if (path := stage_dir / f"{table}.parquet").exists()
        # What must be there is kept, so that its absence is reported and not passed over.
        or kind == "clean"
        or table is Table.INTERACTIONS
    }
    return judge(
        home,
        {f"{kind}_{table}": table for table in tables},
        tables,
        {
            "minimum": scale.minimum,
            "maximum": scale.maximum,
            "earliest": EARLIEST_TIME,
            "latest": as_of + DAY if kind == "raw" else LATEST_TIME,
            "newest_at_least": None if max_age_days is None else as_of - max_age_days * DAY,
            "mostly": 1.0 - tolerated_fraction,
            "min_rows": minimums.rows,
            "min_users": minimums.users,
            "min_items": minimums.items,
        },
        options=options,
    )


def validate_recommendations(
    parquet: Path,
    *,
    home: Home,
    clean: Path,
    catalogue: Path,
    k: int,
    run_date: date,
    ruled: bool = False,
    consumed_after_days: int | None = None,
    short_lists: Path | None = None,
    options: Options = DEFAULT_OPTIONS,
) -> QualityReport:
    """Judge lists before they are published.

    Every user of the clean tables is expected to have a list: of length ``k``, or of all items
    that the user has not seen if those are fewer. Items are those that the model knows and the
    clean tables hold. Rules may make lists shorter still; a short list says why.

    Args:
        parquet: The lists: a file, or a directory of shards.
        home: Where Data Docs are published.
        clean: Output of the clean stage: users, items, and interactions that count as seen.
        catalogue: Parquet file with the ``item_id`` of every item that the model knows; that of
            a champion of an earlier night may lack new items and hold some that are gone.
        k: Length of a list.
        run_date: Date that every row must bear.
        ruled: Whether rules decide what a list may hold, and so how long it is.
        consumed_after_days: Days after which an interacted item may be shown again; 0: at any
            time, None: never.
        short_lists: Parquet file with ``user_id``, ``entries`` and ``note`` of lists shorter than
            ``k``: users for whom nothing is left have no row among the lists to say so.
        options: Limits, and whether Data Docs are published.

    Raises:
        StorageError: If a table or the home cannot be read or written.
    """
    if k < 1:
        raise ValueError(f"k is {k}; wanted at least 1")
    tables = {str(table): clean / f"{table}.parquet" for table in SOURCES}
    tables["catalogue"] = catalogue
    if short_lists is not None:
        tables["short_lists"] = short_lists
    return judge(
        home,
        {str(Table.RECOMMENDATIONS): Table.RECOMMENDATIONS},
        {**tables, str(Table.RECOMMENDATIONS): parquet},
        {
            "k": k,
            "run_date": run_date.isoformat(),
            "ruled": ruled,
            "consumed_after_days": consumed_after_days,
        },
        derived={
            "list_lengths": LIST_LENGTHS,
            "excused": _NOBODY if short_lists is None else _EXCUSED,
        },
        options=options,
    )
