"""Items in blocks of eight-bit integers, best first, with bounds of what is in each block."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from metarec_core.episodes.types import FloatArray, IntArray
from metarec_core.ranking.search.scan import GROUP
from metarec_core.ranking.search.scores import BoolArray, DoubleArray
from metarec_core.ranking.search.wide import MOST

BLOCK_ITEMS = 2048
"""Items a block: its products with some users stay in the cache until they are read."""

_LEVELS = 127
_ABOVE = 1.0 + 1e-6
"""Bounds that are rounded to float32 are rounded up."""

_NORMAL = float(np.finfo(np.float32).tiny)
"""Below it float32 loses digits, or all of them: bounds are not so small, and scales are not."""

_LEAST_APPEAL = 1e-23
"""Least size an appeal is taken for. ``ROUNDING`` of it is in every margin: 1e-29, more than
float32 takes from a score whose parts are below ``_NORMAL`` (at most ``4096 * 127**2`` of it).
"""

_CHORDS = 64


class Rounded(NamedTuple):
    """Vectors as integers times a scale each.

    Attributes:
        integers: ``[N, d]`` int8.
        scale: ``[N]`` float32.
        rounded: Norm of ``scale * integers``, ``[N]`` float32, rounded up.
        error: Norm of what rounding took, ``[N]`` float32, rounded up.
        norm: Norm of the vector, ``[N]`` float32, rounded up; no bound is 0.
    """

    integers: Tensor
    scale: FloatArray
    rounded: FloatArray
    error: FloatArray
    norm: FloatArray

    @classmethod
    def of(cls, vectors: Tensor, rotation: Tensor) -> Rounded:
        """Round ``vectors @ rotation``.

        Args:
            vectors: ``[N, d]`` float64.
            rotation: Orthogonal, ``[d, d]`` float64. A random one spreads what a vector holds
                over all coordinates, so that none decides the scale.
        """
        turned = vectors @ rotation
        scale = (turned.abs().amax(dim=1) / _LEVELS).float()
        scale = torch.where(scale >= _NORMAL, scale, 1.0)
        wide = scale.double()[:, None]
        integers = (turned / wide).round().clamp(-_LEVELS, _LEVELS)
        rounded = integers * wide
        return cls(
            integers.to(torch.int8),
            scale.numpy(),
            _up(rounded.norm(dim=1)),
            _up((turned - rounded).norm(dim=1) + 1e-12 * turned.norm(dim=1)),
            _up(vectors.norm(dim=1)),
        )


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive items in the order of the index.

    Attributes:
        first: Position of the first.
        integers: ``[d, N]`` int8, ``N`` a multiple of the group; zeros at padding.
        scale: ``[N]`` float32.
        appeal: ``[N]`` float32; -inf at padding.
        norms: Largest norm of each group, ``[N / GROUP]`` float32, rounded up.
        errors: Largest norm of what rounding took, of each group.
        appeals: Largest size of an appeal, of each group; not 0.
        chords: Largest score of the block at each of :attr:`ItemBlocks.query_norms`.
    """

    first: int
    integers: Tensor
    scale: FloatArray
    appeal: FloatArray
    norms: FloatArray
    errors: FloatArray
    appeals: FloatArray
    chords: DoubleArray


@dataclass(frozen=True, slots=True)
class ItemBlocks:
    """Open items, ordered by what a typical query can give them, in blocks.

    A query of norm ``x`` gives an item at most ``x |v_i| + appeal_i``. The largest of these in a
    block is convex in ``x``, so that a chord between two norms bounds it from above.

    Attributes:
        order: Catalogue index of each position, ``[N]``.
        position: Position of each catalogue index, ``[I]``; -1 where it is not open.
        rotation: What vectors are turned by before rounding, ``[d, d]`` float64.
        blocks: The items.
        query_norms: Norms at which the chords begin and end, ascending from 0.
    """

    order: IntArray
    position: IntArray
    rotation: Tensor
    blocks: list[Block]
    query_norms: DoubleArray

    @classmethod
    def of(
        cls,
        vectors: Tensor,
        norm: DoubleArray,
        appeal: DoubleArray,
        open_items: BoolArray,
        typical_norm: float,
    ) -> ItemBlocks:
        """Prepare items for queries of about ``typical_norm``; exact for any that are held.

        Norms and appeals are at most :data:`~metarec_core.ranking.search.wide.MOST`.

        Args:
            vectors: ``[I, d]``.
            norm: Of each, ``[I]``.
            appeal: ``[I]``.
            open_items: ``[I]``.
            typical_norm: Norm of a usual query.
        """
        typical = min(max(typical_norm, 1.0 / MOST), MOST) if typical_norm > 0.0 else 1.0
        ids = np.flatnonzero(open_items)
        order = ids[np.lexsort((ids, -(typical * norm[ids] + appeal[ids])))]
        position = np.full(len(open_items), -1, dtype=np.int64)
        position[order] = np.arange(len(order))
        rotation = _rotation(vectors.shape[1])
        query_norms = np.concatenate([[0.0], typical * np.geomspace(1e-2, 1e2, _CHORDS)])
        blocks = []
        for first in range(0, len(order), BLOCK_ITEMS):
            part = order[first : first + BLOCK_ITEMS]
            rounded = Rounded.of(vectors[torch.from_numpy(part)].double(), rotation)
            chords = [float((x * norm[part] + appeal[part]).max()) for x in query_norms]
            blocks.append(_block(first, rounded, appeal[part], np.array(chords)))
        return cls(order, position, rotation, blocks, query_norms)

    def bounds(self, block: Block, query_norm: DoubleArray) -> DoubleArray:
        """Most that queries of these norms can give an item of the block, ``[U]``."""
        norms = self.query_norms
        bound = np.interp(query_norm, norms, block.chords)
        # Beyond the last chord the largest slope of the block goes on.
        beyond = np.maximum(query_norm - norms[-1], 0.0) * float(block.norms.max())
        bound = bound + beyond
        raised: DoubleArray = bound + 1e-6 * np.abs(bound)
        return raised


def _block(first: int, rounded: Rounded, appeal: DoubleArray, chords: DoubleArray) -> Block:
    count = len(appeal)
    width = -(-count // GROUP) * GROUP
    integers = torch.zeros(width, rounded.integers.shape[1], dtype=torch.int8)
    integers[:count] = rounded.integers
    return Block(
        first,
        integers.T,
        _widened(rounded.scale, width, 0.0),
        _widened(appeal, width, -np.inf),
        _of_groups(rounded.norm, width),
        _of_groups(rounded.error, width),
        _of_groups(np.maximum(np.abs(appeal) * _ABOVE, _LEAST_APPEAL), width),
        chords,
    )


def _widened(values: npt.NDArray[np.floating], width: int, filler: float) -> FloatArray:
    wide = np.full(width, filler, dtype=np.float32)
    wide[: len(values)] = values
    return wide


def _of_groups(values: npt.NDArray[np.floating], width: int) -> FloatArray:
    largest: FloatArray = _widened(values, width, 0.0).reshape(-1, GROUP).max(axis=1)
    return largest


def _up(values: Tensor) -> FloatArray:
    up: FloatArray = (values * _ABOVE).clamp(min=_NORMAL).float().numpy()
    return up


@cache
def _rotation(dim: int) -> Tensor:
    drawn = np.random.default_rng(dim).standard_normal((dim, dim))
    return torch.from_numpy(np.linalg.qr(drawn)[0])


@cache
def integers_are_exact() -> bool:
    """Whether products of eight-bit integers come out as they are.

    Instructions older than VNNI add two products in 16 bits and cut off what does not fit.
    """
    largest = torch.full((32, 64), _LEVELS, dtype=torch.int8)
    for left in (largest, -largest):
        product = torch._int_mm(left, largest.T.contiguous())
        if not bool((product == 64 * int(left[0, 0]) * _LEVELS).all()):
            return False
    return True
