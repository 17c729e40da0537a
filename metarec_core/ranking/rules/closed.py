"""Items that are closed to single users: consumed, or denied to them alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from metarec_core.episodes.types import IntArray, InteractionMatrix
from metarec_core.errors import ConfigError
from metarec_core.ranking.rules.document import ConsumedAfter
from metarec_core.ranking.rules.items import BoolArray
from metarec_core.ranking.rules.load import Rules
from metarec_core.ranking.search import Closed

SECONDS_A_DAY = 86_400


def count_within(
    closed: Closed, masks: BoolArray, mask_of_user: npt.NDArray[np.int32], users: IntArray
) -> IntArray:
    """Closed items that lie within each user's mask, ``[B]``.

    Args:
        closed: By user, ascending within a row.
        masks: ``[G, I]``.
        mask_of_user: ``[U]``.
        users: Rows, ``[B]``.
    """
    counts: IntArray = _count_within(
        closed.indptr, closed.items, masks, mask_of_user, users.astype(np.int64)
    )
    return counts


def closed_items(
    rules: Rules,
    histories: InteractionMatrix,
    denied: Closed,
    now: int,
) -> Closed:
    """Join what users have consumed, by the policy of ``rules``, and what is denied to them.

    Args:
        rules: The rules.
        histories: One row a user, sorted by item.
        denied: Denied items of each user.
        now: 00:00 UTC of the run date, seconds since 1970.

    Raises:
        ConfigError: If the policy needs times that the interactions lack.
    """
    policy = rules.document.consumed
    if policy == "allowed":
        return denied
    if isinstance(policy, ConsumedAfter):
        if histories.times is None and len(histories.items):
            raise ConfigError(
                f"{rules.name}, setting consumed.after_days",
                found="interactions without times",
                wanted="a time of every interaction",
                next_step="name the column of times in the dataset's descriptor, or set "
                "'consumed: never'",
            )
        times = histories.items if histories.times is None else histories.times
        hidden = times > now - policy.after_days * SECONDS_A_DAY
    elif len(denied.items):
        hidden = np.ones(len(histories.items), dtype=np.bool_)
    else:
        return Closed.seen(histories)
    indptr, items = _merged(histories.indptr, histories.items, hidden, denied.indptr, denied.items)
    return Closed(indptr, items)


@njit(cache=True, nogil=True)
def _merged(
    left_indptr: IntArray,
    left: IntArray,
    kept: BoolArray,
    right_indptr: IntArray,
    right: IntArray,
) -> tuple[IntArray, IntArray]:
    """Union of two rows of ascending items for each user, of the left one only what is kept."""
    n_users = len(left_indptr) - 1
    indptr = np.zeros(n_users + 1, dtype=np.int64)
    out = np.empty(kept.sum() + len(right), dtype=np.int64)
    n = 0
    for user in range(n_users):
        start = n
        a, b = left_indptr[user], right_indptr[user]
        while a < left_indptr[user + 1] or b < right_indptr[user + 1]:
            if a < left_indptr[user + 1] and not kept[a]:
                a += 1
                continue
            if b == right_indptr[user + 1] or (a < left_indptr[user + 1] and left[a] <= right[b]):
                item = left[a]
                a += 1
            else:
                item = right[b]
                b += 1
            if n == start or out[n - 1] != item:
                out[n] = item
                n += 1
        indptr[user + 1] = n
    return indptr, out[:n].copy()


@njit(cache=True, nogil=True)
def _count_within(
    indptr: IntArray,
    items: IntArray,
    masks: BoolArray,
    mask_of_user: npt.NDArray[np.int32],
    users: IntArray,
) -> IntArray:
    counts = np.zeros(len(users), dtype=np.int64)
    for row in range(len(users)):
        user = users[row]
        mask = masks[mask_of_user[user]]
        last = -1
        for place in range(indptr[user], indptr[user + 1]):
            item = items[place]
            if item != last and mask[item]:
                counts[row] += 1
            last = item
    return counts
