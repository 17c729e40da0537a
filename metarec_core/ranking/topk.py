"""The K best of each row, with ties settled by position: the same answer every night."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class TopK(NamedTuple):
    """The best entries of each row, best first.

    Attributes:
        values: ``[B, K]``, descending.
        indices: Their columns, ``[B, K]`` int64; among equal values the lower column comes first.
    """

    values: Tensor
    indices: Tensor


_GROUP = 32
_WORTH_GROUPING = 8192
_SHORT = 64
"""Rows up to this long are sorted whole: quicker than finding the best and settling their ties."""


def top_k(scores: Tensor, k: int) -> TopK:
    """The ``min(k, N)`` best columns of each row; ``torch.topk`` alone leaves ties open.

    Long rows are first reduced to the maxima of groups of columns: the K best columns lie in the
    K groups with the largest maxima, so that most columns are read once and never sorted.

    Args:
        scores: ``[B, N]``, without NaN; not changed.
        k: How many, at least 1.
    """
    n = scores.shape[1]
    k = min(k, n)
    if n <= _SHORT:
        values, indices = scores.sort(dim=1, descending=True, stable=True)
        return TopK(values[:, :k], indices[:, :k])
    if k == n:
        return _ordered(scores, torch.arange(n, device=scores.device).expand(scores.shape))
    if n >= _WORTH_GROUPING and 2 * k * _GROUP < n:
        indices, open_ties = _by_groups(scores, k)
    else:
        best = scores.topk(k + 1, dim=1)
        indices = best.indices[:, :k]
        open_ties = best.values[:, k] == best.values[:, k - 1]
    if bool(open_ties.any()):
        rows = open_ties.nonzero().squeeze(1)
        indices = indices.clone()
        indices[rows] = _lowest_columns(scores[rows], k)
    return _ordered(scores.gather(1, indices), indices)


def _by_groups(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Columns of the K best, ``[B, K]``, and the rows where the last place is tied, ``[B]``."""
    n = scores.shape[1]
    whole = n - n % _GROUP
    maxima = scores[:, :whole].reshape(len(scores), -1, _GROUP).amax(dim=2)
    if whole < n:
        maxima = torch.cat([maxima, scores[:, whole:].amax(dim=1, keepdim=True)], dim=1)
    groups = maxima.topk(k + 1, dim=1)
    columns = groups.indices[:, :k, None] * _GROUP + torch.arange(_GROUP, device=scores.device)
    columns = columns.flatten(1)
    values = scores.gather(1, columns.clamp_max(n - 1)).masked_fill(columns >= n, -torch.inf)
    best = values.topk(k + 1, dim=1)
    last = best.values[:, k - 1]
    tied = (best.values[:, k] == last) | (groups.values[:, k] == last)
    # Padding ties with real columns only at -inf, where the tie is settled like any other.
    return columns.gather(1, best.indices[:, :k]).clamp_max(n - 1), tied


def _lowest_columns(scores: Tensor, k: int) -> Tensor:
    """Columns of the K best where the K-th value is tied: the lower columns win, ``[B, K]``."""
    last = scores.topk(k, dim=1).values[:, -1:]
    above = scores > last
    level = scores == last
    places = k - above.sum(dim=1, keepdim=True)
    chosen = above | (level & (level.cumsum(dim=1) <= places))
    return chosen.nonzero()[:, 1].view(len(scores), k)


def _ordered(values: Tensor, indices: Tensor) -> TopK:
    indices, by_column = indices.sort(dim=1)
    values, by_value = values.gather(1, by_column).sort(dim=1, descending=True, stable=True)
    return TopK(values, indices.gather(1, by_value))
