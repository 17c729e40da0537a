"""Sizes that float32 bounds do not hold: there every item is scored in float64."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from metarec_core.episodes.types import IntArray
from metarec_core.errors import ModelError
from metarec_core.ranking.search.closed import Closed
from metarec_core.ranking.search.scores import BoolArray, DoubleArray, exhaustive

MOST = 1e37
"""Largest norm, appeal or score that the other searches are given: float32 ends at 3.4e38, and
bounds add a few of them. Of small ones they know: what float32 rounds to zero is in their margins.
"""

_ROWS = 256
"""Most users a thread searches for before it takes others."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The largest open items.

    Attributes:
        norm: Largest norm of a vector; inf beyond float64.
        appeal: Largest size of an appeal.
    """

    norm: float
    appeal: float

    @classmethod
    def of(cls, norm: DoubleArray, appeal: DoubleArray, open_items: BoolArray) -> Self:
        """The largest of the norms and appeals, ``[I]``, of items that are open."""
        return cls(
            float(norm[open_items].max(initial=0.0)),
            float(np.abs(appeal[open_items]).max(initial=0.0)),
        )

    @property
    def fit(self) -> bool:
        """Whether float32 holds the items."""
        return self.norm <= MOST and self.appeal <= MOST

    def beyond(self, queries: Tensor) -> BoolArray:
        """Queries ``[U, d]`` that, or whose scores, float32 may not hold."""
        norm = norms(queries)
        # What is NaN (nothing times infinity) is beyond as well.
        held = (norm <= MOST) & (norm * self.norm + self.appeal <= MOST)
        beyond: BoolArray = (~held).cpu().numpy()
        return beyond if self.fit else np.ones_like(beyond)


def norms(vectors: Tensor) -> Tensor:
    """Norms of vectors ``[N, d]`` in float64, ``[N]``; inf where float64 does not hold a square."""
    norm: Tensor = torch.linalg.vector_norm(vectors, dim=1, dtype=torch.float64)
    return norm


class WideSearch:
    """Search that scores every open item in float64: slow, and right as far as float64 goes.

    It holds a flag an item and thread, whatever the number of users.

    Args:
        vectors: Of the whole catalogue, ``[I, d]``, padded, on any device.
        appeal: ``[I]``.
        open_items: ``[I]``.
    """

    def __init__(self, vectors: Tensor, appeal: DoubleArray, open_items: BoolArray) -> None:
        self._vectors, self._appeal = vectors, appeal
        self._open_items = np.flatnonzero(open_items)

    def search(
        self, queries: Tensor, k: int, closed: Closed, step: float, threads: int
    ) -> tuple[IntArray, DoubleArray]:
        """The best of each query; see :meth:`FactorIndex.search`.

        Raises:
            ModelError: If a score of an open item is not finite.
        """
        n_users = len(queries)
        items = np.empty((n_users, k), dtype=np.int64)
        scores = np.empty((n_users, k))
        wide, vectors = queries.cpu().numpy(), self._vectors.cpu().numpy()

        def part(start: int) -> None:
            exhaustive(
                np.arange(start, min(start + _ROWS, n_users)),
                wide,
                vectors,
                self._appeal,
                self._open_items,
                closed.indptr,
                closed.items,
                1.0 / step if step else 0.0,
                items,
                scores,
            )

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(part, range(0, n_users, _ROWS)))
        broken = np.isnan(scores).any(axis=1)
        if broken.any():
            sizes = float(norms(queries).max()), float(norms(self._vectors).max())
            raise ModelError(
                "search of the best items",
                found=f"scores of {int(broken.sum())} user(s) that are NaN or infinite in float64: "
                f"norms are up to {sizes[0]:.1e} of a query and {sizes[1]:.1e} of an item, "
                f"an appeal up to {np.abs(self._appeal).max():.1e}",
                wanted="finite scores",
                next_step="train the learner again; a learning rate that is too high can do this",
            )
        return items, scores
