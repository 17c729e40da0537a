"""How many users fit into a tile: memory is set, and does not grow with users times items."""

from __future__ import annotations

from metarec_core.learners.base import FactorLearner, Learner
from metarec_core.ranking.blocks import BLOCK_USERS

MEMORY_PATTERN = r"^[1-9]\d*(MB|GB)$"
"""How a setting states an amount of memory."""

MOST_USERS = 1024
"""Users of a tile beyond which nothing gets quicker."""

_UNITS = {"MB": 10**6, "GB": 10**9}
_NUMBER = 8
_MATRICES = 4
"""Matrices as large as a posterior's covariance that a predictor and its reasons hold at once."""

_CANDIDATE = 96
"""Bytes a candidate: its bounds, some times as many as are wanted, and its copies in lists."""

_ENTRY, _REASON = 400, 160
"""Bytes an entry of a list, and a reason, as arrays and as columns."""

_OTHER_REASONS = 4


def bytes_of(amount: str) -> int:
    """An amount of memory in bytes.

    >>> bytes_of("2GB"), bytes_of("300MB")
    (2000000000, 300000000)
    """
    return int(amount[:-2]) * _UNITS[amount[-2:]]


def tile_users(
    memory: int, learner: Learner, *, k: int, pool: int, reasons: int, workers: int
) -> int:
    """Users of a tile for which ``workers`` tiles at once stay about within ``memory``.

    Never fewer than a block (:mod:`metarec_core.ranking.blocks`), whose shape is fixed so that
    lists do not change. A learner whose scores are no products holds one block at a time.

    Args:
        memory: Bytes, beside the model and the users' histories.
        learner: The learner.
        k: Entries of a list.
        pool: Candidates of a user.
        reasons: Interactions and features named in an entry's reasons.
        workers: Tiles at once.
    """
    dim = 0
    if isinstance(learner, FactorLearner):
        dim = learner.item_factors().vectors.shape[1]
    posterior = _MATRICES * dim * dim * _NUMBER
    entry = _ENTRY + _REASON * (reasons + _OTHER_REASONS)
    a_user = posterior + _CANDIDATE * max(pool, k) + entry * k
    return max(BLOCK_USERS, min(MOST_USERS, memory // workers // a_user))
