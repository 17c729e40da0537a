"""Similar items and similar users, as a model's bundle knows them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor

from metarec_core.episodes.types import IntArray
from metarec_core.errors import ModelError
from metarec_core.ranking.blocks import blocks
from metarec_core.ranking.request import Audience
from metarec_core.ranking.similar import Neighbours, SimilarConfig, nearest, nearest_streamed
from metarec_core.ranking.vectors import UserVectors, item_vectors
from metarec_core.schema import Columns
from metarec_core.serving.bundle import Bundle

_HELD = 1 << 24
"""Figures of users' vectors that are held at once."""

_SHOWN = 1 << 22
"""Figures of users' vectors that those are compared with at once."""

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
    # Nothing has more neighbours than there are: what is held grows with the figure.
    k = min(config.k, len(vectors))
    found = nearest(vectors[own], vectors, k, own=own, config=config)
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
    own = np.array([places[user] for user in wanted], dtype=np.int64)
    vectors = UserVectors.of(bundle.learner)
    crowd = _Crowd(bundle, audience, vectors, vectors.dim(len(bundle.catalogue)))
    found = crowd.nearest(own, min(config.k, max(1, len(places))), config)
    rows, ranks, neighbours, similarity = _flat(found)
    return pl.DataFrame(
        {
            Columns.USER: pl.Series(wanted, dtype=pl.String).gather(rows),
            Columns.RANK: ranks,
            "similar_user_id": audience.user_ids.gather(neighbours),
            "similarity": similarity,
        }
    ).cast(SIMILAR_USERS_SCHEMA)


@dataclass(frozen=True, slots=True)
class _Crowd:
    """An audience's vectors, made when they are asked for.

    Attributes:
        bundle: The model.
        audience: The users.
        vectors: What makes them.
        dim: How long they are.
    """

    bundle: Bundle
    audience: Audience
    vectors: UserVectors
    dim: int

    def nearest(self, wanted: IntArray, k: int, config: SimilarConfig) -> Neighbours:
        """The nearest others of the users at these rows, ``[Q]``.

        Everyone's vectors are held where they are few or an index is made of them. Otherwise some
        of the wanted are held, and everyone is shown to them some at a time: the vectors of a
        learner that has no better are as long as the catalogue.
        """
        everyone = np.arange(len(self.audience.user_ids))
        if len(everyone) * self.dim <= _HELD or config.indexes(len(everyone)):
            held, own = self._table(everyone), self._rows(wanted)
            return nearest(held[own], held, k, own=own, config=config)
        asked, place = np.unique(wanted, return_inverse=True)
        step = max(1, _HELD // self.dim)
        found = [
            nearest_streamed(self._table(some), self._parts(everyone), k, own=self._rows(some))
            for some in np.split(asked, range(step, len(asked), step))
        ]
        again = self._rows(place)
        return Neighbours(
            torch.cat([part.indices for part in found])[again],
            torch.cat([part.similarity for part in found])[again],
        )

    def _table(self, users: IntArray) -> Tensor:
        """Vectors of ascending ``users``, ``[n, d]``."""
        shape = len(users), self.dim
        table = torch.zeros(shape, dtype=torch.float64, device=self.bundle.device)
        for some, own in self._blocks(users):
            table[self._rows(np.searchsorted(users, some))] = own
        return table

    def _parts(self, users: IntArray) -> Iterator[tuple[Tensor, Tensor]]:
        """Ascending rows ``[n]`` and their vectors ``[n, d]``, about ``_SHOWN`` figures a part."""
        rows, vectors = list[IntArray](), list[Tensor]()
        for some, own in self._blocks(users):
            rows.append(some)
            vectors.append(own)
            if sum(map(len, rows)) * self.dim >= _SHOWN:
                yield self._sorted(rows, vectors)
                rows, vectors = [], []
        if rows:
            yield self._sorted(rows, vectors)

    def _sorted(self, rows: list[IntArray], vectors: list[Tensor]) -> tuple[Tensor, Tensor]:
        joined = np.concatenate(rows)
        order = np.argsort(joined)
        return self._rows(joined[order]), torch.cat(vectors)[self._rows(order)]

    def _blocks(self, users: IntArray) -> Iterator[tuple[IntArray, Tensor]]:
        histories, features = self.audience.histories, self.audience.user_features
        n_items = len(self.bundle.catalogue)
        for block in blocks(histories, features, users, n_columns=n_items):
            own = self.vectors.vectors(block.support.to(self.bundle.device))
            yield block.users, own[: len(block.users)]

    def _rows(self, rows: IntArray) -> Tensor:
        return torch.from_numpy(rows).to(self.bundle.device)


def _flat(found: Neighbours) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Row, rank, neighbour and similarity of each neighbour that is there."""
    indices = found.indices.cpu().numpy()
    rows, places = np.nonzero(indices >= 0)
    similarity = found.similarity.cpu().numpy()[rows, places]
    return rows, places + 1, indices[rows, places], similarity
