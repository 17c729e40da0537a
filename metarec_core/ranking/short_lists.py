"""Users for whom nothing is left: they have no row among the lists that could say why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from metarec_core.episodes.types import IntArray
from metarec_core.schema import Columns

SHORT_LISTS = "short_lists.parquet"

SHORT_LISTS_SCHEMA = pl.Schema(
    {Columns.USER: pl.String(), "entries": pl.Int64(), "note": pl.String()}
)
"""A user without a list: no entry, and why; the note is null where no rule explains it."""

NOTHING_OPEN = "short: no open item"


def users_without_list(
    shards: Sequence[Path],
    user_ids: pl.Series,
    open_counts: Callable[[IntArray], IntArray] | None,
) -> pl.DataFrame:
    """Who has no entry in the lists.

    Args:
        shards: Parquet files of the lists.
        user_ids: Everyone who was to have a list, ``[U]``.
        open_counts: How many items the rules leave to users, by their rows in ``user_ids``; None:
            there are no rules.

    Returns:
        A frame of :data:`SHORT_LISTS_SCHEMA` in the order of ``user_ids``.
    """
    lists = pl.scan_parquet(list(shards), hive_partitioning=False)
    served = lists.select(pl.col(Columns.USER).unique()).collect(engine="streaming")
    rows = np.flatnonzero(~user_ids.is_in(served[Columns.USER].implode()).to_numpy())
    # An entry that rules leave and the lists lack is a fault, and gets no excuse.
    closed = open_counts(rows) == 0 if open_counts else np.zeros(len(rows), dtype=np.bool_)
    frame = pl.DataFrame({Columns.USER: user_ids.gather(rows), "closed": closed})
    return frame.select(
        Columns.USER,
        pl.lit(0).alias("entries"),
        pl.when("closed").then(pl.lit(NOTHING_OPEN)).alias("note"),
    ).cast(SHORT_LISTS_SCHEMA)
