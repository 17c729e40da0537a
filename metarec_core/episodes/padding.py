"""Ragged rows as padded tensors."""

from __future__ import annotations

import numpy as np
import torch

from metarec_core.episodes.types import FloatArray, IntArray, Support, TaskData


def within(counts: IntArray) -> IntArray:
    """Place of each entry in its row: ``0 .. counts[0] - 1, 0 .. counts[1] - 1, ...``.

    Args:
        counts: Entries of each row, ``[B]``.
    """
    places: IntArray = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return places


def pad(
    shape: tuple[int, int], rows: IntArray, columns: IntArray, items: IntArray, values: FloatArray
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Items, values and mask of shape ``shape``, entries at ``(rows, columns)``, 0 elsewhere."""
    padded_items = np.zeros(shape, dtype=np.int64)
    padded_values = np.zeros(shape, dtype=np.float32)
    mask = np.zeros(shape, dtype=np.bool_)
    padded_items[rows, columns] = items
    padded_values[rows, columns] = values
    mask[rows, columns] = True
    return torch.from_numpy(padded_items), torch.from_numpy(padded_values), torch.from_numpy(mask)


def padded_support(
    data: TaskData,
    users: IntArray,
    rows: IntArray,
    columns: IntArray,
    items: IntArray,
    values: FloatArray,
    width: int,
) -> Support:
    """The support of ``users`` (rows of ``data``), ``[B, width]``, from its entries."""
    padded = pad((len(users), width), rows, columns, items, values)
    return Support(*padded, torch.from_numpy(data.user_features[users]))
