"""The books of cleaning: every row that is dropped, changed or added, by table and reason."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import polars as pl

from metarec_core.errors import StorageError
from metarec_core.schema import Table


class Action(StrEnum):
    """What happened to rows."""

    READ = "read"
    DROPPED = "dropped"
    CHANGED = "changed"
    ADDED = "added"
    KEPT = "kept"


class Accounting:
    """Counts of rows by table, action and reason; a row is dropped for one reason only."""

    def __init__(self) -> None:
        self._rows: dict[tuple[Table, Action, str], int] = {}

    def count(self, table: Table, action: Action, reason: str, rows: int) -> None:
        """Enter ``rows``; zero is not entered, the same reason adds up."""
        if rows:
            key = (table, action, reason)
            self._rows[key] = self._rows.get(key, 0) + rows

    def total(self, table: Table, action: Action) -> int:
        """Rows of ``table`` that ``action`` happened to, over all reasons."""
        return sum(
            rows
            for (entry, what, _), rows in self._rows.items()
            if (entry, what) == (table, action)
        )

    def require_balance(self, tables: Mapping[Table, int]) -> None:
        """Check that rows read and added are the rows dropped and those that are there now.

        Args:
            tables: Rows of each table as it was written.

        Raises:
            StorageError: If a row is unaccounted for.
        """
        for table, written in tables.items():
            read, dropped = self.total(table, Action.READ), self.total(table, Action.DROPPED)
            kept, added = self.total(table, Action.KEPT), self.total(table, Action.ADDED)
            if read != kept + dropped or written != kept + added:
                raise StorageError(
                    f"accounts of the cleaned table {table}",
                    found=f"{read} read, {dropped} dropped, {kept} kept, {added} added, "
                    f"{written} written",
                    wanted="read = kept + dropped, and written = kept + added",
                    next_step="report this as a defect of metarec; nothing was published",
                )

    def frame(self) -> pl.DataFrame:
        """Columns ``table, reason, action, rows``, in the order of tables and actions."""
        tables, actions = list(Table), list(Action)
        entries = sorted(
            self._rows.items(),
            key=lambda entry: (tables.index(entry[0][0]), actions.index(entry[0][1]), entry[0][2]),
        )
        return pl.DataFrame(
            [
                (table.value, reason, action.value, rows)
                for (table, action, reason), rows in entries
            ],
            schema={
                "table": pl.String,
                "reason": pl.String,
                "action": pl.String,
                "rows": pl.Int64,
            },
            orient="row",
        )

    def facts(self) -> dict[str, Any]:
        """The same as ``{action: {table: {reason: rows}}}``; read and kept without reasons."""
        facts: dict[str, Any] = {action.value: {} for action in Action}
        for row in self.frame().iter_rows(named=True):
            if row["action"] in (Action.READ, Action.KEPT):
                facts[row["action"]][row["table"]] = row["rows"]
            else:
                facts[row["action"]].setdefault(row["table"], {})[row["reason"]] = row["rows"]
        return facts
