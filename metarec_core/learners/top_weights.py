"""A likelihood that counts what stands near the head of a list."""

from __future__ import annotations

import torch
from torch import Tensor


def top_weights(scores: Tensor, top: int, base: float = 0.1) -> Tensor:
    """Weight of each candidate as a target: near 1 above place ``top``, ``base`` far below.

    What is ranked far down adds nothing to NDCG at the top, and a plain likelihood spends most
    of its effort there. A smooth form of the softmax loss at K (Yang et al. 2025, "Breaking the
    Top-K Barrier: Advancing Top-K Ranking Metrics Optimization in Recommender Systems").

    Args:
        scores: ``[B, C]``.
        top: The place, at most ``C``.
        base: Weight of a target out of sight.

    Returns:
        ``[B, C]``, without gradient.
    """
    with torch.no_grad():
        place = scores.topk(min(top, scores.shape[1]), dim=1).values[:, -1:]
        weight: Tensor = base + (1.0 - base) * torch.sigmoid(scores - place)
        return weight
