"""No re-ranking: the order of scores."""

from __future__ import annotations

import numpy as np

from metarec_core.episodes.types import IntArray
from metarec_core.ranking.diversity.method import Method, Request


def order(request: Request) -> IntArray:
    """Positions by score alone.

    Args:
        request: The candidates, ``[B, P]``.

    Returns:
        ``[B, length]`` int64, -1 behind the last candidate.
    """
    places = np.arange(request.length)
    return np.where(places < request.counts[:, None], places, -1)


NONE = Method(order)
