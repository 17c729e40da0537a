"""What came after a model was trained, as tasks: its support is what it could know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import polars as pl

from metarec_core.calibration.ask import some
from metarec_core.calibration.relevance import NEXT
from metarec_core.episodes.fixed import FixedTasks
from metarec_core.episodes.padding import within
from metarec_core.episodes.store import Tasks
from metarec_core.episodes.types import InteractionMatrix
from metarec_core.schema import Feedback
from metarec_core.serving.audience import catalogue_positions, encode_users, translate
from metarec_core.serving.bundle import Bundle


def tasks_since(
    bundle: Bundle, tasks: Tasks, users: pl.DataFrame, *, max_query: int, seed: int
) -> FixedTasks | None:
    """New interactions of users as queries, all that is older as their supports.

    The model has seen none of the queries, though it may have been trained on the supports:
    that is how it serves.

    Args:
        bundle: The model; items are put in its indices, and those it does not know left out.
        tasks: Tonight's interactions.
        users: Cleaned users with their feature columns, in any order.
        max_query: Most interactions of a query, the first ones; with implicit feedback it is
            :data:`~metarec_core.calibration.relevance.NEXT`.
        seed: Seed of the draw, of many users.

    Returns:
        A task for each user with a new interaction; None where times are not known, or nothing
        is new.
    """
    matrix = tasks.data.interactions
    if bundle.newest is None or matrix.times is None:
        return None
    own = catalogue_positions(bundle.catalogue, tasks.catalogue)
    new = matrix.times > bundle.newest
    rows = np.repeat(np.arange(matrix.n_users), matrix.counts())
    asked = some(np.unique(rows[new & (own[matrix.items] >= 0)]), seed)
    if not len(asked):
        return None
    support = _only(matrix, ~new).select(asked)
    most = NEXT if tasks.data.scale.feedback is Feedback.IMPLICIT else max_query
    query = translate(_first(_only(matrix, new & (own[matrix.items] >= 0)), most), own)
    query = query.select(asked)
    return FixedTasks(
        users=asked,
        user_features=encode_users(bundle, tasks.user_ids.gather(asked), users),
        n_items=len(bundle.catalogue),
        support=translate(support, own),
        query=query,
        targets=np.ones(len(query.items), dtype=np.bool_),
    )


def _only(matrix: InteractionMatrix, kept: npt.NDArray[np.bool_]) -> InteractionMatrix:
    """Some of the interactions, in the same rows."""
    rows = np.repeat(np.arange(matrix.n_users), matrix.counts())[kept]
    counts = np.bincount(rows, minlength=matrix.n_users)
    return InteractionMatrix(
        indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        items=matrix.items[kept],
        values=matrix.values[kept],
        times=None if matrix.times is None else matrix.times[kept],
    )


def _first(matrix: InteractionMatrix, most: int) -> InteractionMatrix:
    """The first ``most`` interactions of each row, by time and then by item."""
    assert matrix.times is not None
    rows = np.repeat(np.arange(matrix.n_users), matrix.counts())
    order = np.lexsort((matrix.items, matrix.times, rows))
    early = np.zeros(len(order), dtype=np.bool_)
    early[order] = within(matrix.counts()) < most
    return replace(_only(matrix, early), times=None)
