"""Precision and reciprocal rank of the head of a ranking."""

from __future__ import annotations

import torch
from torch import Tensor


def precision(ranked: Tensor, n_targets: Tensor, k: int) -> Tensor:
    """Precision@k of each task: targets among the first ``k`` places / ``k``.

    Args:
        ranked: Whether each place holds a target, best place first, ``[B, K]`` bool.
        n_targets: Targets of each task, in the ranking or not, ``[B]`` int64.
        k: Places that count.

    Returns:
        ``[B]`` float64 in [0, 1]; NaN for a task without a target.
    """
    share = ranked[:, :k].double().sum(dim=1) / k
    return torch.where(n_targets > 0, share, torch.nan)


def reciprocal_rank(ranked: Tensor, n_targets: Tensor, k: int) -> Tensor:
    """MRR@k of each task: 1 / place of the first target, 0 if none stands in the first ``k``.

    Args:
        ranked: Whether each place holds a target, best place first, ``[B, K]`` bool.
        n_targets: Targets of each task, in the ranking or not, ``[B]`` int64.
        k: Places that count.

    Returns:
        ``[B]`` float64 in [0, 1]; NaN for a task without a target.
    """
    head = ranked[:, :k].double()
    places = torch.arange(1, head.shape[1] + 1, dtype=torch.float64, device=head.device)
    first = (head / places).amax(dim=1) if head.shape[1] else head.sum(dim=1)
    return torch.where(n_targets > 0, first, torch.nan)
