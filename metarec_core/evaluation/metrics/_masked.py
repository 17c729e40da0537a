"""Means over the real entries of a padded batch."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of each row's real entries, in float64.

    Args:
        values: ``[B, Q]``; what padding holds does not matter.
        mask: True where an entry is real, ``[B, Q]`` bool.

    Returns:
        ``[B]`` float64. NaN for a row without a real entry, and for a row in which any real
        entry is NaN: a figure over the entries that happened to be predicted could not be
        compared with that of a learner that predicted them all.
    """
    zero = torch.zeros((), dtype=torch.float64, device=values.device)
    total = torch.where(mask, values.double(), zero).sum(dim=1)
    return total / mask.sum(dim=1)
