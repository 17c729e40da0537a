"""What published lists look like as a whole: figures by segment, lengths, flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from metarec_core.schema import SEGMENT_BANDS, Columns

QUANTILES = {"p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}
FIGURES = (Columns.SCORE, Columns.RATING, Columns.SD, Columns.P_RELEVANT)

SHORT = "short: "
"""How the flag begins that says why a list is shorter than asked."""

_MOST_FLAGS = 30


@dataclass(frozen=True, slots=True)
class ListsProfile:
    """Published lists in figures.

    Attributes:
        users: Users with a list.
        entries: Entries of all lists.
        spread: ``figure, segment, count`` and the :data:`QUANTILES`, for each of
            :data:`FIGURES` that is there and each segment, in the order of the bands.
        flags: ``flag, entries``, the most frequent first.
        short: ``note, lists``: why lists are short, the most frequent first.
        without: Users who have no list at all.
    """

    users: int
    entries: int
    spread: pl.DataFrame
    flags: pl.DataFrame
    short: pl.DataFrame
    without: int = 0


def profile_lists(shards: Sequence[Path], *, without: int = 0) -> ListsProfile:
    """Read what the page tells of lists, a column or two at a time.

    Args:
        shards: Parquet files of ``RECOMMENDATIONS_SCHEMA``.
        without: Users who have no list at all, and so no row.
    """
    lists = pl.scan_parquet(list(shards), hive_partitioning=False)
    totals = lists.select(pl.col(Columns.USER).n_unique().alias("users"), pl.len().alias("entries"))
    users, entries = totals.collect(engine="streaming").row(0)
    flags = (
        lists.select(pl.col(Columns.RULE_FLAGS).alias("flag"))
        .explode("flag")
        .drop_nulls()
        .group_by("flag")
        .len("entries")
        .sort(pl.col("entries"), pl.col("flag"), descending=[True, False])
        .collect(engine="streaming")
    )
    is_note = pl.col("flag").str.starts_with(SHORT)
    short = flags.filter(is_note).select(
        pl.col("flag").str.strip_prefix(SHORT).alias("note"), pl.col("entries").alias("lists")
    )
    return ListsProfile(
        users=users,
        entries=entries,
        spread=pl.concat([_spread(lists, figure) for figure in FIGURES]),
        flags=flags.filter(~is_note).head(_MOST_FLAGS),
        short=short.head(_MOST_FLAGS),
        without=without,
    )


def _spread(lists: pl.LazyFrame, figure: str) -> pl.DataFrame:
    bands = pl.Enum([name for _, name in SEGMENT_BANDS])
    return (
        lists.select(Columns.SEGMENT, pl.col(figure).alias("value"))
        .drop_nulls("value")
        .group_by(Columns.SEGMENT)
        .agg(
            pl.len().alias("count"),
            *(
                pl.col("value").quantile(share, "nearest").alias(name)
                for name, share in QUANTILES.items()
            ),
        )
        .sort(pl.col(Columns.SEGMENT).cast(bands))
        .select(pl.lit(figure).alias("figure"), Columns.SEGMENT, "count", *QUANTILES)
        .collect(engine="streaming")
    )
