"""Similar items and similar users, as a model's bundle knows them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl
import torch
from torch import Tensor

from metarec_core.episodes.types import IntArray
from metarec_core.errors import ModelError
from metarec_core.ranking.blocks import blocks
from metarec_core.ranking.request import Audience
from metarec_core.ranking.similar import Neighbours, SimilarConfig, nearest
from metarec_core.ranking.vectors import item_vectors, user_vectors
from metarec_core.schema import Columns
from metarec_core.serving.bundle import Bundle

SIMILAR_ITEMS_SCHEMA = pl.Schema(
    {
        Columns.ITEM: pl.String(),
        Columns.RANK: pl.Int32(),
        "similar_item_id": pl.String(),
        "similar_title": pl.String(),
        "similarity": pl.Float64(),
        "source": pl.String(),
    }
)
"""``similarity`` is a cosine; ``source`` the learner whose vectors were compared, or
``features``."""

SIMILAR_USERS_SCHEMA = pl.Schema(
    {
        Columns.USER: pl.String(),
        Columns.RANK: pl.Int32(),
        "similar_user_id": pl.String(),
        "similarity": pl.Float64(),
    }
)
"""``similarity`` is the cosine of two users' tastes over the catalogue."""


def similar_items(
    bundle: Bundle, items: IntArray, config: SimilarConfig | None = None
) -> pl.DataFrame:
    """The nearest other items of each item.

    Args:
        bundle: The model.
        items: Catalogue indices, ``[Q]``.
        config: How many, and how they are sought.

    Returns:
        ``SIMILAR_ITEMS_SCHEMA``, in the order of ``items``.

    Raises:
        ModelError: If the model cannot tell items apart.
    """
    config = config or SimilarConfig()
    named = None if bundle.named is None else bundle.named.matrix().to(bundle.device)
    vectors, source = item_vectors(bundle.learner, named)
    if not vectors.shape[1]:
        raise ModelError(
            f"similar items by learner {bundle.learner_name}",
            found="a model that has neither vectors nor named features of its items",
            wanted="a model that tells items apart",
            next_step="train a learner with item vectors, such as ials, amortised or the average",
        )
    own = torch.from_numpy(items).to(vectors.device)
    found = nearest(vectors[own], vectors, config.k, own=own, config=config)
    asked = bundle.catalogue[Columns.ITEM].gather(items)
    rows, ranks, neighbours, similarity = _flat(found)
    return pl.DataFrame(
        {
            Columns.ITEM: asked.gather(rows),
            Columns.RANK: ranks,
            "similar_item_id": bundle.catalogue[Columns.ITEM].gather(neighbours),
            "similar_title": bundle.catalogue[Columns.TITLE].gather(neighbours),
            "similarity": similarity,
            "source": pl.repeat(source, len(rows), dtype=pl.String(), eager=True),
        }
    ).cast(SIMILAR_ITEMS_SCHEMA)


def similar_users(
    bundle: Bundle,
    audience: Audience,
    user_ids: Iterable[str] | None = None,
    config: SimilarConfig | None = None,
) -> pl.DataFrame:
    """The nearest other users of an audience of each user.

    Args:
        bundle: The model.
        audience: Everyone to compare with.
        user_ids: Whose neighbours are sought; None: everyone's.
        config: How many, and how they are sought.

    Returns:
        ``SIMILAR_USERS_SCHEMA``, in the order of ``user_ids``.

    Raises:
        ModelError: If a user is not among the audience.
    """
    config = config or SimilarConfig()
    audience.check(bundle.catalogue)
    places = {user: place for place, user in enumerate(audience.user_ids)}
    wanted = list(places) if user_ids is None else list(user_ids)
    strangers = [user for user in wanted if user not in places]
    if strangers:
        raise ModelError(
            "users whose like are sought",
            found=f"{', '.join(map(repr, strangers[:5]))} not among {len(places)} users",
            wanted="users of the audience",
            next_step="correct the ids, or give these users' rows too",
        )
    own = torch.tensor([places[user] for user in wanted], dtype=torch.int64, device=bundle.device)
    vectors = _vectors_of(bundle, audience)
    found = nearest(vectors[own], vectors, config.k, own=own, config=config)
    rows, ranks, neighbours, similarity = _flat(found)
    return pl.DataFrame(
        {
            Columns.USER: pl.Series(wanted, dtype=pl.String).gather(rows),
            Columns.RANK: ranks,
            "similar_user_id": audience.user_ids.gather(neighbours),
            "similarity": similarity,
        }
    ).cast(SIMILAR_USERS_SCHEMA)


def _vectors_of(bundle: Bundle, audience: Audience) -> Tensor:
    """Vectors of everyone, ``[U, d]``, made block by block."""
    users = np.arange(len(audience.user_ids))
    n_items = len(bundle.catalogue)
    vectors: Tensor | None = None
    for block in blocks(audience.histories, audience.user_features, users, n_columns=n_items):
        own = user_vectors(bundle.learner, block.support.to(bundle.device))
        if vectors is None:
            vectors = own.new_zeros(len(users), own.shape[1])
        vectors[torch.from_numpy(block.users).to(own.device)] = own[: len(block.users)]
    empty = torch.zeros(0, 0, dtype=torch.float64, device=bundle.device)
    return empty if vectors is None else vectors


def _flat(found: Neighbours) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Row, rank, neighbour and similarity of each neighbour that is there."""
    indices = found.indices.cpu().numpy()
    rows, places = np.nonzero(indices >= 0)
    similarity = found.similarity.cpu().numpy()[rows, places]
    return rows, places + 1, indices[rows, places], similarity
