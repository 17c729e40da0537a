"""The nearest of many vectors: exact cosines, or an index whose recall is measured."""

from __future__ import annotations

import logging
from collections.abc import Iterator
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
    if config.index == "usearch" and len(vectors) >= config.index_above:
        found = approximate(vectors, queries, min(k + 1, len(vectors)))
        if found is not None:
            return _from_index(queries, vectors, k, own, found, config)
    return _exact(queries, vectors, k, own)


def _exact(queries: Tensor, vectors: Tensor, k: int, own: Tensor) -> Neighbours:
    width = min(k, len(vectors))
    indices = torch.full((len(queries), k), -1, dtype=torch.int64, device=queries.device)
    similarity = torch.full(indices.shape, torch.nan, dtype=torch.float64, device=queries.device)
    for rows in _tiles(len(queries), len(vectors)):
        scores = on_grid(queries[rows] @ vectors.mT)
        own_rows = (own[rows] >= 0).nonzero().squeeze(1)
        scores[own_rows, own[rows][own_rows]] = -torch.inf
        best = top_k(scores, width)
        there = best.values > -torch.inf
        indices[rows, :width] = best.indices.masked_fill(~there, -1)
        similarity[rows, :width] = best.values.masked_fill(~there, torch.nan)
    return Neighbours(indices, similarity)


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
