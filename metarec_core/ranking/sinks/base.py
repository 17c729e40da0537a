"""What every sink is given and does, whichever database it is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol

from metarec_core.errors import ConfigError
from metarec_core.schema import RECOMMENDATIONS_SCHEMA, Columns

RUN_ID, MODEL_VERSION, CODE_VERSION = "run_id", "model_version", "code_version"

SINK_COLUMNS: tuple[str, ...] = (
    *RECOMMENDATIONS_SCHEMA.names(),
    RUN_ID,
    MODEL_VERSION,
    CODE_VERSION,
)
"""Columns of a sink's table: those of the contract and where the rows come from."""

KEY = (Columns.RUN_DATE, Columns.USER, Columns.RANK)
"""What identifies a row of a sink's table."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Where a publication comes from.

    Attributes:
        run_date: Date of the lists; every row bears it.
        run_id: Metarec's id of the run.
        model_version: Version of the registered model that made the lists.
        code_version: Version of the code that did.
    """

    run_date: date
    run_id: str
    model_version: str
    code_version: str


class Sink(Protocol):
    """A table that is to hold the lists of every run date.

    Attributes:
        label: What it is, in words fit for logs: no address, no credentials.
    """

    label: str

    def replacing(self, shards: Sequence[Path], stamp: Stamp) -> AbstractContextManager[int]:
        """Let the shards' rows take the place of whatever the table holds of the run date.

        The rows are written on entry, in one transaction that is committed when the block ends
        well and rolled back otherwise: other connections see the old rows or the new ones. Done
        twice it leaves the same table, and rows that are gone from the lists go from the table.

        Args:
            shards: Parquet files of ``RECOMMENDATIONS_SCHEMA``.
            stamp: Where they come from.

        Returns:
            A context that knows the number of rows written.

        Raises:
            ConfigError: If the table has other columns, or the setting leads nowhere.
            ServiceError: If the database cannot be reached or written. It is as it was before.
        """
        ...


def wrong_columns(label: str, found: Sequence[str]) -> ConfigError:
    """The error of a table that somebody, or an older version, made otherwise."""
    missing = [name for name in SINK_COLUMNS if name not in found]
    extra = [name for name in found if name not in SINK_COLUMNS]
    parts = [
        f"{words} {', '.join(names)}"
        for words, names in (("no column", missing), ("unknown columns", extra))
        if names
    ]
    return ConfigError(
        label,
        found="; ".join(parts) or f"columns in the order {', '.join(found)}",
        wanted=f"the columns {', '.join(SINK_COLUMNS)}",
        next_step="name another table in recommend.sinks, or rename the old one: the next run "
        "creates it anew",
    )
