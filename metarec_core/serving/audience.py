"""Tonight's users in the words of a model that may have been trained on another night."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from metarec_core.episodes.store import Tasks
from metarec_core.episodes.types import FloatArray, IntArray, InteractionMatrix
from metarec_core.errors import ModelError
from metarec_core.ranking.request import Audience
from metarec_core.schema import Columns
from metarec_core.serving.bundle import Bundle


@dataclass(frozen=True, slots=True)
class Translation:
    """An audience, and what the model could not be told.

    Attributes:
        audience: Every user, in the order of the tasks.
        candidates: Items of the model that tonight's catalogue still holds, ascending indices.
        unknown_items: Items of tonight that the model has never seen.
        ignored_interactions: Interactions with them.
    """

    audience: Audience
    candidates: IntArray
    unknown_items: int
    ignored_interactions: int


def audience_of(bundle: Bundle, tasks: Tasks, users: pl.DataFrame) -> Translation:
    """Every user of ``tasks`` with history and features as ``bundle`` knows them.

    Args:
        bundle: The model.
        tasks: Tonight's tasks.
        users: Cleaned users with their feature columns, in any order.

    Raises:
        ModelError: If the model knows none of tonight's items.
    """
    own = catalogue_positions(bundle.catalogue, tasks.catalogue)
    candidates = np.sort(own[own >= 0])
    if not len(candidates):
        raise ModelError(
            f"model of {bundle.dataset}",
            found=f"none of tonight's {len(own)} items among the {len(bundle.catalogue)} it knows",
            wanted="at least one item in common",
            next_step="check the item ids of the source; if they are meant to be new, train "
            "('metarec run') and delete the alias 'champion' of the old model",
        )
    matrix = tasks.data.interactions
    histories = translate(matrix, own)
    return Translation(
        audience=Audience(
            user_ids=tasks.user_ids,
            histories=histories,
            user_features=encode_users(bundle, tasks.user_ids, users),
        ),
        candidates=candidates,
        unknown_items=int((own < 0).sum()),
        ignored_interactions=len(matrix.items) - len(histories.items),
    )


def encode_users(bundle: Bundle, user_ids: pl.Series, users: pl.DataFrame) -> FloatArray:
    """Features of ``user_ids`` by the bundle's own encoder, ``[U, Fu]``."""
    ordered = user_ids.to_frame(Columns.USER).join(
        users, on=Columns.USER, how="left", maintain_order="left"
    )
    return bundle.user_encoder.encode(ordered)


def catalogue_positions(known: pl.DataFrame, catalogue: pl.DataFrame) -> IntArray:
    """Row in ``known`` of each item of ``catalogue``, ``[I]``; -1 where there is none."""
    joined = catalogue.select(Columns.ITEM).join(
        known.select(Columns.ITEM).with_row_index("row"),
        on=Columns.ITEM,
        how="left",
        maintain_order="left",
    )
    return joined["row"].cast(pl.Int64).fill_null(-1).to_numpy()


def translate(matrix: InteractionMatrix, own: IntArray) -> InteractionMatrix:
    """The matrix in other item indices; interactions with an item at -1 are left out."""
    items = own[matrix.items]
    kept = items >= 0
    rows = np.repeat(np.arange(matrix.n_users), matrix.counts())[kept]
    # Rows are sorted by item: another catalogue may have another order.
    order = np.lexsort((items[kept], rows))
    counts = np.bincount(rows, minlength=matrix.n_users)
    return InteractionMatrix(
        indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        items=items[kept][order],
        values=matrix.values[kept][order],
        times=None if matrix.times is None else matrix.times[kept][order],
    )
