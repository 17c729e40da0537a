"""The nearest of many vectors: exact cosines, or an index whose recall is measured."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from metarec_core.ranking.grid import on_grid
from metarec_core.ranking.neighbour_index import approximate
from metarec_core.ranking.topk import top_k
from metarec_core.section import Section

logger = logging.getLogger(__name__)

_TINY = 1e-12
_SIMILARITIES = 1 << 22
"""Similarities held at once."""


class SimilarConfig(Section):
    """How nearest items and users are sought."""

    k: int = Field(10, ge=1, le=1000)
    """Neighbours of each item or user."""

    index: Literal["exact", "usearch"] = "exact"
    """``exact``: every pair is compared; ``usearch``: an approximate index (HNSW) where there are
    ``index_above`` or more to compare with. It needs the extra ``metarec[usearch]``."""

    index_above: int = Field(200_000, ge=1, le=1_000_000_000)
    """Items or users from which on an index is worth building."""

    recall_sample: int = Field(200, ge=1, le=100_000)
    """Queries that are answered exactly too, to measure and log the recall of the index."""

    def indexes(self, n_vectors: int) -> bool:
        """Whether an index of so many vectors is to be built."""
        return self.index == "usearch" and n_vectors >= self.index_above


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nearest of each query, best first.

    Attributes:
        indices: Rows of what was compared with, ``[Q, K]``; -1 where there are fewer.
        similarity: Cosine of each, ``[Q, K]``; NaN where there are fewer.
        recall: Share of the exact neighbours that an index found, on a sample; None: all exact.
    """

    indices: Tensor
    similarity: Tensor
    recall: float | None = None


def nearest(
    queries: Tensor,
    vectors: Tensor,
    k: int,
    *,
    own: Tensor | None = None,
    config: SimilarConfig | None = None,
) -> Neighbours:
    """The ``k`` rows of ``vectors`` with the largest cosine to each query.

    Cosines lie on the grid of lists; among equals the lower row comes first. A vector of zeros is
    like nothing: its cosine is 0.

    Args:
        queries: ``[Q, d]``.
        vectors: ``[N, d]``.
        k: Neighbours of each.
        own: Row of each query among the vectors, ``[Q]``, which is no neighbour; -1 for none.
        config: Whether an index may be used; exact by default.
    """
    config = config or SimilarConfig()
    queries, vectors = _normalised(queries), _normalised(vectors)
    own = torch.full((len(queries),), -1, device=queries.device) if own is None else own
    if config.indexes(len(vectors)):
        found = approximate(vectors, queries, min(k + 1, len(vectors)))
        if found is not None:
            return _from_index(queries, vectors, k, own, found, config)
    return _exact(queries, vectors, k, own)


def nearest_streamed(
    queries: Tensor, vectors: Iterable[tuple[Tensor, Tensor]], k: int, *, own: Tensor
) -> Neighbours:
    """What :func:`nearest` finds exactly, where the vectors come some at a time.

    Args:
        queries: ``[Q, d]``.
        vectors: Rows, ascending, ``[n]``, and their vectors, ``[n, d]``; each row once, in any
            order of the parts.
        k: Neighbours of each.
        own: Row of each query, ``[Q]``, which is no neighbour; -1 for none.
    """
    nearest_yet = _NearestYet(_normalised(queries), k, own)
    for rows, part in vectors:
        nearest_yet.see(rows, _normalised(part))
    return nearest_yet.neighbours()


class _NearestYet:
    """The nearest of each query among the vectors that were seen.

    Args:
        queries: Of unit length, ``[Q, d]``.
        k: Neighbours of each.
        own: Row of each query, ``[Q]``; -1 for none.
    """

    def __init__(self, queries: Tensor, k: int, own: Tensor) -> None:
        self._queries, self._own = queries, own.contiguous()
        self._rows = torch.full((len(queries), k), -1, dtype=torch.int64, device=queries.device)
        self._cosines = torch.full_like(self._rows, -torch.inf, dtype=torch.float64)

    def see(self, rows: Tensor, vectors: Tensor) -> None:
        """Vectors of unit length, ``[n, d]``, and their rows, ``[n]``, ascending."""
        if not len(rows):
            return
        k = self._rows.shape[1]
        for tile in _tiles(len(self._queries), len(rows)):
            cosines = on_grid(self._queries[tile] @ vectors.mT)
            own = self._own[tile]
            place = torch.searchsorted(rows, own).clamp_max(len(rows) - 1)
            here = (rows[place] == own).nonzero().squeeze(1)
            cosines[here, place[here]] = -torch.inf
            best = top_k(cosines, k)
            found = torch.cat([self._rows[tile], rows[best.indices]], dim=1)
            cosines = torch.cat([self._cosines[tile], best.values], dim=1)
            # By row first, so that the stable sort by cosine leaves ties in that order.
            found, by_row = found.sort(dim=1, stable=True)
            cosines, by_cosine = cosines.gather(1, by_row).sort(dim=1, descending=True, stable=True)
            self._rows[tile] = found.gather(1, by_cosine)[:, :k]
            self._cosines[tile] = cosines[:, :k]

    def neighbours(self) -> Neighbours:
        """The nearest of all that was seen."""
        gone = self._cosines == -torch.inf
        return Neighbours(
            self._rows.masked_fill(gone, -1), self._cosines.masked_fill(gone, torch.nan)
        )


def _exact(queries: Tensor, vectors: Tensor, k: int, own: Tensor) -> Neighbours:
    """Of queries and vectors of unit length."""
    nearest_yet = _NearestYet(queries, k, own)
    nearest_yet.see(torch.arange(len(vectors), device=vectors.device), vectors)
    return nearest_yet.neighbours()


def _from_index(
    queries: Tensor, vectors: Tensor, k: int, own: Tensor, found: Tensor, config: SimilarConfig
) -> Neighbours:
    """Order what an index found by exact cosines, and measure what it missed."""
    cosines = on_grid((vectors[found.clamp_min(0)] @ queries.unsqueeze(-1)).squeeze(-1))
    gone = (found < 0) | (found == own[:, None])
    # By row first, so that the stable sort by cosine leaves ties in that order.
    by_row = found.argsort(dim=1, stable=True)
    found, gone = found.gather(1, by_row), gone.gather(1, by_row)
    cosines = cosines.gather(1, by_row).masked_fill(gone, -torch.inf)
    best = cosines.sort(dim=1, descending=True, stable=True)
    there = best.values[:, :k] > -torch.inf
    indices = found.gather(1, best.indices)[:, :k].masked_fill(~there, -1)
    similarity = best.values[:, :k].masked_fill(~there, torch.nan)
    step = max(1, len(queries) // config.recall_sample)
    exact = _exact(queries[::step], vectors, k, own[::step]).indices
    hits = (exact.unsqueeze(2) == indices[::step].unsqueeze(1)).any(dim=2) & (exact >= 0)
    recall = float(hits.sum() / (exact >= 0).sum().clamp_min(1))
    logger.info("index over %d vectors: recall@%d %.4f on a sample", len(vectors), k, recall)
    return Neighbours(indices, similarity, recall)


def _normalised(vectors: Tensor) -> Tensor:
    vectors = vectors.double()
    unit: Tensor = vectors / vectors.norm(dim=1, keepdim=True).clamp_min(_TINY)
    return unit


def _tiles(n_queries: int, n_vectors: int) -> Iterator[slice]:
    step = max(1, _SIMILARITIES // max(n_vectors, 1))
    for start in range(0, n_queries, step):
        yield slice(start, start + step)
