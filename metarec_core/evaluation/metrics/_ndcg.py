"""Normalised discounted cumulative gain."""

from __future__ import annotations

import torch
from torch import Tensor


def ndcg(ranked: Tensor, n_targets: Tensor, k: int) -> Tensor:
    """NDCG@k of each task with binary gain, over a full ranking.

    ``DCG = sum_{r=1..k} [place r holds a target] / log2(r + 1)``, divided by the DCG of the best
    possible ranking, which holds ``min(k, targets)`` targets first (Jarvelin & Kekalainen 2002,
    "Cumulated Gain-Based Evaluation of IR Techniques"). Every catalogue item competes; sampled
    negatives would change the order of learners (Krichene & Rendle 2020, "On Sampled Metrics for
    Item Recommendation").

    Args:
        ranked: Whether each place holds a target, best place first, ``[B, K]`` bool; places
            beyond ``k`` are not read, missing ones hold no target.
        n_targets: Targets of each task, in the ranking or not, ``[B]`` int64.
        k: Places that count.

    Returns:
        ``[B]`` float64 in [0, 1]; NaN for a task without a target, where no ranking is right or
        wrong (0 would punish every learner alike and drown their differences).
    """
    device = ranked.device
    places = torch.arange(2, k + 2, dtype=torch.float64, device=device)
    discount = 1.0 / places.log2()
    head = ranked[:, :k].double()
    gained = (head * discount[: head.shape[1]]).sum(dim=1)
    best = torch.cat([torch.zeros(1, dtype=torch.float64, device=device), discount.cumsum(0)])
    # Two orders of summation may differ in the last bit.
    return (gained / best[n_targets.clamp(max=k)]).clamp(max=1.0)


def graded_ndcg(gains: Tensor, ideal: Tensor, k: int) -> Tensor:
    """NDCG@k of each task with gains of any size.

    Args:
        gains: Gain of what stands at each place, best place first, ``[B, K]``; 0 for nothing.
        ideal: Gains of all that competes, in any order, ``[B, Q]``; 0 for padding.
        k: Places that count.

    Returns:
        ``[B]`` float64 in [0, 1]; NaN for a task without any gain.
    """
    best = ideal.double().sort(dim=1, descending=True).values[:, :k]
    head = gains.double()[:, :k]
    places = torch.arange(2, k + 2, dtype=torch.float64, device=head.device)
    discount = 1.0 / places.log2()
    gained = (head * discount[: head.shape[1]]).sum(dim=1)
    return (gained / (best * discount[: best.shape[1]]).sum(dim=1)).clamp(max=1.0)
