"""Cut users into blocks of a fixed shape that depends on nothing but a user's own history.

The last bits of a matrix product depend on the shapes of its factors. A user is therefore always
scored in a block of the same shape, whoever else is asked for and whatever the tile size. With
:mod:`metarec_core.ranking.grid`, which takes care of what memory alignment still changes, the lists
of the night and the answers of the day are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from metarec_core.episodes.types import FloatArray, IntArray, InteractionMatrix, Support

BLOCK_USERS = 32
BLOCK_ENTRIES = 1 << 16
BLOCK_SCORES = 1 << 24
"""Most users, padded support entries (users x width) and scores (users x items) of a block."""

_SHORTEST = 16


@dataclass(frozen=True, slots=True)
class Block:
    """Users whose histories are padded to one width.

    Attributes:
        users: Rows of the users in the matrix, ``[b]``, ``b <= B``.
        support: ``B`` rows, of which the first ``b`` are those users; the rest have no history.
    """

    users: IntArray
    support: Support


def padded_width(counts: IntArray) -> IntArray:
    """Width that histories of these lengths are padded to: the next power of two, at least 16."""
    longest = np.maximum(counts, _SHORTEST)
    return np.left_shift(1, np.ceil(np.log2(longest)).astype(np.int64))


def blocks(
    histories: InteractionMatrix,
    user_features: FloatArray,
    users: IntArray,
    *,
    n_columns: int,
) -> Iterator[Block]:
    """All of ``users``, by width and then in their order.

    Args:
        histories: One row a user.
        user_features: ``[U, Fu]``.
        users: Rows to cut into blocks, ``[T]``.
        n_columns: Items that are scored for each user.
    """
    widths = padded_width(histories.indptr[users + 1] - histories.indptr[users])
    for width in np.unique(widths).tolist():
        alike = users[widths == width]
        bounds = (BLOCK_USERS, BLOCK_ENTRIES // width, BLOCK_SCORES // max(n_columns, 1))
        rows = max(1, min(bounds))
        for start in range(0, len(alike), rows):
            part = alike[start : start + rows]
            yield Block(part, _padded(histories, user_features, part, (rows, width)))


def _padded(
    histories: InteractionMatrix,
    user_features: FloatArray,
    users: IntArray,
    shape: tuple[int, int],
) -> Support:
    rows, positions = histories.entries(users)
    columns = positions - histories.indptr[users][rows]
    items = np.zeros(shape, dtype=np.int64)
    values = np.zeros(shape, dtype=np.float32)
    mask = np.zeros(shape, dtype=np.bool_)
    features = np.zeros((shape[0], user_features.shape[1]), dtype=np.float32)
    items[rows, columns] = histories.items[positions]
    values[rows, columns] = histories.values[positions]
    mask[rows, columns] = True
    features[: len(users)] = user_features[users]
    return Support(
        torch.from_numpy(items),
        torch.from_numpy(values),
        torch.from_numpy(mask),
        torch.from_numpy(features),
    )
