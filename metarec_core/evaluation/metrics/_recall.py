"""Recall."""

from __future__ import annotations

from torch import Tensor


def recall(ranked: Tensor, n_targets: Tensor, k: int) -> Tensor:
    """Recall@k of each task: targets among the first ``k`` places / all targets of the task.

    The denominator is *not* cut at ``k`` (Liang et al. 2018, "Variational Autoencoders for
    Collaborative Filtering", divide by ``min(k, targets)``): a task with more than ``k``
    targets cannot reach 1.

    Args:
        ranked: Whether each place holds a target, best place first, ``[B, K]`` bool; places
            beyond ``k`` are not read.
        n_targets: Targets of each task, in the ranking or not, ``[B]`` int64.
        k: Places that count.

    Returns:
        ``[B]`` float64 in [0, 1]; NaN for a task without a target.
    """
    return ranked[:, :k].double().sum(dim=1) / n_targets.double()
