"""What published lists are like, beyond the accuracy that the gate has judged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from metarec_core.episodes.types import IntArray
from metarec_core.evaluation.diversity import diversity_figures
from metarec_core.ranking.diversity.taste import liked, liked_from
from metarec_core.schema import Columns
from metarec_core.serving.tonight import Tonight

EVERYONE = "all"
"""Segment of figures over all users."""

LIST_METRICS_SCHEMA = pl.Schema(
    {"metric": pl.String(), Columns.SEGMENT: pl.String(), "value": pl.Float64()}
)

MOST_USERS = 5000
"""Users whose lists are looked at; of more, so many are drawn."""


def drawn_lists(shards: Sequence[Path], seed: int) -> pl.DataFrame:
    """Published rows of all users, or of some drawn at random.

    Args:
        shards: Files of the lists.
        seed: Of the draw.
    """
    lists = pl.scan_parquet(list(shards))
    users = lists.select(pl.col(Columns.USER).unique().sort()).collect()[Columns.USER]
    if len(users) > MOST_USERS:
        chosen = np.random.default_rng(seed).choice(len(users), MOST_USERS, replace=False)
        lists = _of(lists, users.gather(np.sort(chosen)))
    return lists.collect()


def lists_of(shards: Sequence[Path], users: pl.Series) -> pl.DataFrame:
    """Published rows of these users, as of another night that is compared with this one.

    A draw of that night's own would not do: it goes by place among all ids, so that one user more
    makes it another draw, and few users would be in both.

    Args:
        shards: Files of the lists.
        users: Ids, which may repeat; who has no list there has no row.
    """
    return _of(pl.scan_parquet(list(shards)), users.unique()).collect()


def _of(lists: pl.LazyFrame, users: pl.Series) -> pl.LazyFrame:
    return lists.filter(pl.col(Columns.USER).is_in(users.implode()))


def list_figures(tonight: Tonight, lists: pl.DataFrame) -> pl.DataFrame:
    """Diversity of lists, of all users and by segment.

    Args:
        tonight: What they were made from.
        lists: Published rows; see :func:`drawn_lists`.

    Returns:
        ``LIST_METRICS_SCHEMA``; a figure that does not exist is left out.
    """
    rows = []
    segments = [EVERYONE, *lists[Columns.SEGMENT].unique(maintain_order=True).sort()]
    for segment in segments:
        part = lists if segment == EVERYONE else lists.filter(pl.col(Columns.SEGMENT) == segment)
        if part.is_empty():
            continue
        users, items = _arrays(tonight, part)
        history, known, taste = _histories(tonight, users)
        figures = diversity_figures(items, tonight.space, history, known, liked=taste)
        rows += [
            {"metric": name, Columns.SEGMENT: segment, "value": value}
            for name, value in figures.items()
            if np.isfinite(value)
        ]
    return pl.DataFrame(rows, schema=LIST_METRICS_SCHEMA)


def _arrays(tonight: Tonight, lists: pl.DataFrame) -> tuple[IntArray, IntArray]:
    """Rows of the users, ``[U]``, and their items, ``[U, K]``, -1 behind the end."""
    catalogue = tonight.bundle.catalogue.select(Columns.ITEM).with_row_index("item")
    ids = tonight.translation.audience.user_ids
    known = pl.DataFrame({Columns.USER: ids}).with_row_index("user")
    placed = lists.join(catalogue, on=Columns.ITEM, how="inner").join(
        known, on=Columns.USER, how="inner"
    )
    users, row = np.unique(placed["user"].to_numpy(), return_inverse=True)
    ranks = placed[Columns.RANK].to_numpy() - 1
    items = np.full((len(users), int(ranks.max(initial=0)) + 1), -1, dtype=np.int64)
    items[row, ranks] = placed["item"].to_numpy()
    return users.astype(np.int64), items


def _histories(tonight: Tonight, users: IntArray) -> tuple[IntArray, np.ndarray, np.ndarray]:
    """Items of the users' histories, where they are real, and which were liked, ``[U, S]``."""
    matrix = tonight.translation.audience.histories
    rows, positions = matrix.entries(users)
    columns = positions - matrix.indptr[users][rows]
    width = int(columns.max(initial=-1)) + 1
    history = np.zeros((len(users), width), dtype=np.int64)
    known = np.zeros((len(users), width), dtype=np.bool_)
    history[rows, columns] = matrix.items[positions]
    known[rows, columns] = True
    values = np.zeros((len(users), width), dtype=np.float32)
    values[rows, columns] = matrix.values[positions]
    return history, known, liked(values, known, liked_from(tonight.bundle.scale))
