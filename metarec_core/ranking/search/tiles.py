"""A CPU's search: users in tiles, a thread a tile, blocks of items until none can be better."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from metarec_core.episodes.types import IntArray
from metarec_core.ranking.search.blocks import ItemBlocks, Rounded
from metarec_core.ranking.search.closed import Closed
from metarec_core.ranking.search.decide import rescore
from metarec_core.ranking.search.scan import SPARE, by_block, scan
from metarec_core.ranking.search.scores import DoubleArray, exhaustive

TILE_USERS = 4096
"""Users whose candidates are held at once, a thread."""

_ROWS = 128
"""Users whose products with a block are made at once."""

_CANDIDATES = 1 << 23
"""Most candidates that are held at once, a thread: 100 MB."""

_SPARE = 6
_LEAST_SPARE = 256
"""Candidates that are held a user: a multiple of ``k``, and a constant."""


class TiledSearch:
    """Search of items in blocks.

    Args:
        blocks: The items.
        vectors: Of the whole catalogue, ``[I, d]``, padded to the lanes.
        appeal: ``[I]``.
    """

    def __init__(self, blocks: ItemBlocks, vectors: Tensor, appeal: DoubleArray) -> None:
        self._blocks, self._appeal = blocks, appeal
        self._vectors = vectors.numpy()
        self._open_items = np.sort(blocks.order)

    def search(
        self, queries: Tensor, k: int, closed: Closed, step: float, threads: int
    ) -> tuple[IntArray, DoubleArray]:
        """The best of each query; see :meth:`FactorIndex.search`."""
        n_users = len(queries)
        items = np.empty((n_users, k), dtype=np.int64)
        scores = np.empty((n_users, k))
        fits = max(_ROWS, _CANDIDATES // (_SPARE * k + _LEAST_SPARE))
        size = max(1, min(TILE_USERS, fits, -(-n_users // threads)))
        starts = range(0, n_users, size)

        def tile(start: int) -> None:
            stop = min(start + size, n_users)
            rows = slice(start, stop)
            self._tile(queries[rows], k, closed.rows(start, stop), step, items[rows], scores[rows])

        with _one_thread_each():
            if threads == 1 or len(starts) == 1:
                for start in starts:
                    tile(start)
            else:
                with ThreadPoolExecutor(threads) as pool:
                    list(pool.map(tile, starts))
        return items, scores

    def _tile(
        self,
        queries: Tensor,
        k: int,
        closed: Closed,
        step: float,
        items: IntArray,
        scores: DoubleArray,
    ) -> None:
        n_users, blocks = len(queries), self._blocks.blocks
        rounded = Rounded.of(queries, self._blocks.rotation)
        shut_ptr = np.empty((n_users, len(blocks) + 1), dtype=np.int64)
        shut_at = np.empty(len(closed.items), dtype=np.int32)
        width = blocks[1].first if len(blocks) > 1 else max(len(self._blocks.order), 1)
        by_block(closed.indptr, closed.items, self._blocks.position, width, shut_ptr, shut_at)
        capacity = _SPARE * k + _LEAST_SPARE
        positions = np.empty((n_users, capacity), dtype=np.int32)
        lower = np.empty((n_users, capacity), dtype=np.float32)
        upper = np.empty((n_users, capacity), dtype=np.float32)
        counts = np.zeros(n_users, dtype=np.int64)
        bars = np.full(n_users, -np.inf, dtype=np.float32)
        limits = np.full(n_users, min(2 * k + SPARE, capacity), dtype=np.int64)
        overflow = np.zeros(n_users, dtype=np.bool_)
        scratch = np.empty(capacity, dtype=np.float32)
        norms = rounded.norm.astype(np.float64)
        for number, block in enumerate(blocks):
            may = self._blocks.bounds(block, norms) >= bars.astype(np.float64) - step
            users = np.flatnonzero(may & ~overflow)
            for start in range(0, len(users), _ROWS):
                rows = users[start : start + _ROWS]
                products = torch._int_mm(rounded.integers[torch.from_numpy(rows)], block.integers)
                scan(
                    products.numpy(),
                    rows,
                    block.first,
                    block.scale,
                    block.appeal,
                    block.norms,
                    block.errors,
                    block.appeals,
                    rounded.scale,
                    rounded.norm,
                    rounded.rounded,
                    rounded.error,
                    shut_ptr,
                    shut_at,
                    number,
                    np.float32(step),
                    positions,
                    lower,
                    upper,
                    counts,
                    bars,
                    limits,
                    overflow,
                    k,
                    scratch,
                )
        wide, steps = queries.numpy(), 1.0 / step if step else 0.0
        rescore(
            wide,
            self._vectors,
            self._appeal,
            self._blocks.order,
            positions,
            lower,
            upper,
            counts,
            bars,
            overflow,
            k,
            steps,
            items,
            scores,
        )
        if overflow.any():
            exhaustive(
                np.flatnonzero(overflow),
                wide,
                self._vectors,
                self._appeal,
                self._open_items,
                closed.indptr,
                closed.items,
                steps,
                items,
                scores,
            )


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Products use one thread: tiles are what runs side by side, and cores are not shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
