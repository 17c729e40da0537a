"""The head of a full ranking, and which of it are targets."""

from __future__ import annotations

import torch
from torch import Tensor

_SIGN_FLIP = 0x7FFFFFFF


def top_items(scores: Tensor, excluded: Tensor, k: int, tie_order: Tensor | None = None) -> Tensor:
    """The best ``k`` items of each row, best first; excluded items come last.

    Ties are broken by catalogue index, as in published lists. ``torch.topk`` alone leaves the
    order of ties open, so score and index are joined in one integer key: the bits of a float32
    order like integers once those of negative numbers are flipped.

    Args:
        scores: List scores of the whole catalogue, ``[B, I]``, without NaN; compared in float32.
        excluded: True where an item is not to be ranked, ``[B, I]`` bool.
        k: Length of the head; a smaller catalogue gives a shorter one.
        tie_order: Of equal scores the larger one goes first, ``[B, I]`` int64 in [0, 2^31);
            None for the order of the catalogue.

    Returns:
        Catalogue indices, ``[B, min(k, I)]`` int64.
    """
    n_items = scores.shape[1]
    # The sum copies, and turns -0.0 into 0.0, whose bits would order below it.
    values = (scores.to(torch.float32) + 0.0).masked_fill_(excluded, -torch.inf)
    bits = values.view(torch.int32)
    ordered = torch.where(bits < 0, bits ^ _SIGN_FLIP, bits).long()
    if tie_order is None:
        tie_order = torch.arange(n_items - 1, -1, -1, device=scores.device)
    return ((ordered << 32) + tie_order).topk(min(k, n_items), dim=1).indices


def chance_order(users: Tensor, items: Tensor, seed: int) -> Tensor:
    """A random order of ``items`` for each of ``users``, the same in whatever batch they come.

    Args:
        users: ``[B]`` int64.
        items: Catalogue indices, ``[B, K]`` or ``[K]`` int64.
        seed: Another seed, other orders.

    Returns:
        ``[B, K]`` int64 in [0, 2^31): a hash of user, item and seed (Steele et al. 2014, "Fast
        Splittable Pseudorandom Number Generators", cut to 31 bits).
    """
    key = users[:, None] * 0x9E3779B1 + items * 0x85EBCA77 + (seed + 1) * 0xC2B2AE3D
    for factor in (0x7FEB352D, 0x846CA68B):
        key = key & 0xFFFFFFFF
        # Products stay below 2^63: the factor is cut to 31 bits.
        key = ((key ^ (key >> 16)) * (factor & 0x7FFFFFFF)) & 0xFFFFFFFF
    return (key ^ (key >> 15)) & 0x7FFFFFFF


def hits(top: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Which places of a ranking hold a target.

    Args:
        top: Ranked catalogue indices, ``[B, K]`` int64.
        targets: Catalogue indices, ``[B, Q]`` int64, each once a row.
        mask: True where an entry of ``targets`` is a target, ``[B, Q]`` bool.

    Returns:
        ``[B, K]`` bool.
    """
    return ((top[:, :, None] == targets[:, None, :]) & mask[:, None, :]).any(dim=2)
