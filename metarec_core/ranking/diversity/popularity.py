"""Less of what everybody is shown: scores without the part that popularity explains."""

from __future__ import annotations

import numpy as np

from metarec_core.episodes.types import IntArray
from metarec_core.ranking.diversity.compiled import standardise
from metarec_core.ranking.diversity.method import Method, Request
from metarec_core.ranking.diversity.pool import DoubleArray


def order(request: Request) -> IntArray:
    """Positions by ``z_i - s t_i``, best first.

    ``z`` is the standardised score, ``t`` the standardised log popularity and ``s`` the strength:
    a score in nats less ``log p(i)`` is the pointwise mutual information of user and item (post-hoc
    logit adjustment, Menon et al. 2021, "Long-Tail Learning via Logit Adjustment", section 4.1).

    Args:
        request: The candidates, ``[B, P]``.

    Returns:
        ``[B, length]`` int64, -1 behind the last candidate.
    """
    pool = request.pool
    popularity, _ = standardise(request.space.log_popularity[pool.items], request.counts)
    return by_value(request.standard - request.strength * popularity, request)


def by_value(values: DoubleArray, request: Request) -> IntArray:
    """Positions of the largest of ``values`` ``[B, P]``, of equals the first."""
    real = request.pool.items >= 0
    places = np.argsort(np.where(real, -values, np.inf), axis=1, kind="stable")[:, : request.length]
    return np.where(np.arange(request.length) < request.counts[:, None], places, -1)


POPULARITY = Method(order)
