"""Raw tables become clean ones, and every row that does not is accounted for."""

from __future__ import annotations

from pathlib import Path

from metarec_core.cleaning.accounting import Accounting, Action
from metarec_core.cleaning.interactions import clean_interactions, count_rows
from metarec_core.cleaning.side_tables import clean_side_table
from metarec_core.config import CleaningConfig
from metarec_core.errors import ValidationError
from metarec_core.ingest.database import connect, file_pattern, literal
from metarec_core.ingest.descriptor import DatasetDescriptor
from metarec_core.schema import INTERACTIONS_SCHEMA, Columns, Table
from metarec_core.storage import StageFacts

ACCOUNTING = "accounting.parquet"
_MADE = {Table.INTERACTIONS: "pairs", Table.USERS: "users", Table.ITEMS: "items"}
_ORDER = {
    Table.INTERACTIONS: f"{Columns.USER}, {Columns.ITEM}",
    Table.USERS: Columns.USER,
    Table.ITEMS: Columns.ITEM,
}
_COLUMNS = {Table.INTERACTIONS: ", ".join(INTERACTIONS_SCHEMA)}


def clean_tables(
    raw: Path, out: Path, *, descriptor: DatasetDescriptor, config: CleaningConfig
) -> StageFacts:
    """Write ``interactions``, ``users`` and ``items`` as they may be learned from.

    Interactions are one a pair, legal, sorted by user and item. Users and items are those of
    their own tables and those of the interactions, sorted by id; an item without a title has its
    id there, and a row that is not from a source has a null ``source_row``. ``accounting.parquet``
    has ``table, reason, action, rows``. The same input gives the same bytes, whatever the number
    of threads.

    Args:
        raw: Output of the ingest stage.
        out: Directory to write.
        descriptor: Scale and features of the dataset.
        config: Rules, memory and threads.

    Returns:
        Interactions read and kept; ``facts`` is ``{action: {table: {reason: rows}}}`` with the
        actions ``dropped``, ``changed`` and ``added``, and ``read`` and ``kept`` by table.

    Raises:
        ValidationError: If no interaction is left.
        StorageError: If the accounts do not balance, or memory or disk do not suffice.
    """
    accounting = Accounting()
    with connect(config, out) as connection:
        path = raw / f"{Table.INTERACTIONS}.parquet"
        clean_interactions(connection, path, descriptor.scale(), config, accounting)
        kept = accounting.total(Table.INTERACTIONS, Action.KEPT)
        if kept == 0:
            raise _nothing_left(accounting)
        for table in (Table.USERS, Table.ITEMS):
            file = raw / f"{table}.parquet"
            source = file if file.exists() else None
            clean_side_table(connection, table, source, descriptor.features(table), accounting)
        written = {}
        for table, key in _ORDER.items():
            target = out / f"{table}.parquet"
            query = f"SELECT {_COLUMNS.get(table, '*')} FROM {_MADE[table]} ORDER BY {key}"  # noqa: S608 (our own names)
            connection.execute(
                f"COPY ({query}) TO {literal(str(target))} (FORMAT parquet, COMPRESSION zstd)"
            )
            written[table] = count_rows(
                connection,
                "SELECT count(*) FROM read_parquet($path)",
                {"path": file_pattern(target)},
            )
    accounting.require_balance(written)
    accounting.frame().write_parquet(out / ACCOUNTING)
    return StageFacts(
        rows_in=accounting.total(Table.INTERACTIONS, Action.READ),
        rows_out=kept,
        facts=accounting.facts(),
    )


def _nothing_left(accounting: Accounting) -> ValidationError:
    dropped = accounting.facts()[Action.DROPPED].get(Table.INTERACTIONS, {})
    reasons = ", ".join(f"{reason} {rows}" for reason, rows in dropped.items())
    return ValidationError(
        "cleaned interactions",
        found=f"none left of {accounting.total(Table.INTERACTIONS, Action.READ)} "
        f"({reasons or 'none were read'})",
        wanted="at least one",
        next_step="check values and timestamp_unit in the descriptor, and "
        "cleaning.min_user_interactions and cleaning.min_item_interactions",
    )
