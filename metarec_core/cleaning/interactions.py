"""Set-wise cleaning of interactions: illegal rows, repeated pairs, k-core."""

from __future__ import annotations

from pathlib import Path

import duckdb

from metarec_core.cleaning.accounting import Accounting, Action
from metarec_core.config import CleaningConfig
from metarec_core.episodes.types import ValueScale
from metarec_core.ingest.database import file_pattern, trimmed
from metarec_core.schema import Columns, Table

EARLIEST_TIME = 1
"""First legal time: 0 is what a missing time becomes in many exports."""
LATEST_TIME = 4_102_444_800
"""First illegal time, 2100-01-01: milliseconds that were taken for seconds lie beyond it."""

_JUDGE = """
CREATE TABLE judged AS
WITH read AS (
    SELECT nullif(user_bare, '') AS user_id, nullif(item_bare, '') AS item_id,
           value, timestamp, source_row,
           user_id <> user_bare OR item_id <> item_bare AS trimmed
    FROM (SELECT *, <user> AS user_bare, <item> AS item_bare FROM read_parquet($path)) AS raw
)
SELECT *, CASE
    WHEN user_id IS NULL THEN 'null_user_id'
    WHEN item_id IS NULL THEN 'null_item_id'
    WHEN value IS NULL OR isnan(value) THEN 'null_value'
    WHEN value < $minimum OR value > $maximum THEN 'value_out_of_range'
    WHEN timestamp < $earliest OR timestamp >= $latest THEN 'impossible_time'
END AS reason
FROM read
"""

_PAIRS = """
CREATE TABLE pairs AS
SELECT user_id, item_id, value, timestamp, source_row, trimmed, copies
FROM (
    SELECT *, count(*) OVER (PARTITION BY user_id, item_id) AS copies,
           row_number() OVER (PARTITION BY user_id, item_id ORDER BY <order>) AS place
    FROM judged WHERE reason IS NULL
)
WHERE place = 1
"""
# A row without a time is older than any that has one.
_LAST = "timestamp DESC NULLS LAST, source_row DESC, value"
_FIRST = "timestamp ASC NULLS FIRST, source_row ASC, value"
_ORDER = {"last": _LAST, "first": _FIRST, "mean": _LAST}

# The list is ordered before it is averaged, and the mean held within the scale: neither threads
# nor rounding may change a value.
_MEANS = """
UPDATE pairs SET value = means.value FROM (
    SELECT user_id, item_id, greatest($minimum, least($maximum,
           list_avg(list(value ORDER BY timestamp NULLS FIRST, source_row, value)))) AS value
    FROM judged WHERE reason IS NULL
    GROUP BY user_id, item_id HAVING count(*) > 1
) AS means
WHERE pairs.user_id = means.user_id AND pairs.item_id = means.item_id
"""

_DROP_SMALL_USERS = """
DELETE FROM pairs WHERE user_id IN (
    SELECT user_id FROM pairs GROUP BY user_id HAVING count(*) < $least)
"""
_DROP_SMALL_ITEMS = """
DELETE FROM pairs WHERE item_id IN (
    SELECT item_id FROM pairs GROUP BY item_id HAVING count(*) < $least)
"""


def clean_interactions(
    connection: duckdb.DuckDBPyConnection,
    raw: Path,
    scale: ValueScale,
    config: CleaningConfig,
    accounting: Accounting,
) -> None:
    """Make the table ``pairs``: legal interactions, one a pair.

    A row is dropped for the first reason that holds: ``null_user_id``, ``null_item_id``,
    ``null_value``, ``value_out_of_range``, ``impossible_time`` (a null time is legal),
    ``duplicate``, ``few_user_interactions``, ``few_item_interactions``. Kept rows are changed
    as ``trimmed`` (an id had blanks around it) or ``averaged`` (a mean of repeated rows).

    Args:
        connection: An open database.
        raw: The file of raw interactions.
        scale: Smallest and largest legal value.
        config: Rules for duplicates and k-core.
        accounting: The books to enter all this in.
    """
    bounds = {"minimum": scale.minimum, "maximum": scale.maximum}
    judge = _JUDGE.replace("<user>", trimmed(Columns.USER)).replace("<item>", trimmed(Columns.ITEM))
    connection.execute(
        judge,
        {
            "path": file_pattern(raw),
            "earliest": EARLIEST_TIME,
            "latest": LATEST_TIME,
            **bounds,
        },
    )
    table = Table.INTERACTIONS
    counted = connection.execute("SELECT reason, count(*) FROM judged GROUP BY reason").fetchall()
    legal = 0
    for reason, rows in counted:
        accounting.count(table, Action.READ, "", rows)
        if reason is None:
            legal = rows
        else:
            accounting.count(table, Action.DROPPED, reason, rows)
    connection.execute(_PAIRS.replace("<order>", _ORDER[config.duplicates]))
    if config.duplicates == "mean":
        connection.execute(_MEANS, bounds)
    connection.execute("DROP TABLE judged")
    unique = count_rows(connection, "SELECT count(*) FROM pairs")
    accounting.count(table, Action.DROPPED, "duplicate", legal - unique)
    _reduce_to_core(connection, config, accounting)
    changed = {"trimmed": "SELECT count(*) FROM pairs WHERE trimmed"}
    if config.duplicates == "mean":
        changed["averaged"] = "SELECT count(*) FROM pairs WHERE copies > 1"
    for reason, query in changed.items():
        accounting.count(table, Action.CHANGED, reason, count_rows(connection, query))
    kept = count_rows(connection, "SELECT count(*) FROM pairs")
    accounting.count(table, Action.KEPT, "", kept)


def _reduce_to_core(
    connection: duckdb.DuckDBPyConnection, config: CleaningConfig, accounting: Accounting
) -> None:
    # Each step may push others below their bound; rows only ever leave, so this ends.
    steps = (
        (_DROP_SMALL_USERS, config.min_user_interactions, "few_user_interactions"),
        (_DROP_SMALL_ITEMS, config.min_item_interactions, "few_item_interactions"),
    )
    removed = True
    while removed:
        removed = False
        for statement, least, reason in steps:
            if least > 1:
                rows = count_rows(connection, statement, {"least": least})
                accounting.count(Table.INTERACTIONS, Action.DROPPED, reason, rows)
                removed = removed or rows > 0


def count_rows(
    connection: duckdb.DuckDBPyConnection, query: str, parameters: dict[str, object] | None = None
) -> int:
    """The one number that a query returns; of an update or delete, the rows it touched."""
    row = connection.execute(query, parameters or {}).fetchone()
    return int(row[0]) if row else 0
