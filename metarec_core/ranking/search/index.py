"""Items prepared for search, and the search."""

from __future__ import annotations

from copy import copy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarec_core.episodes.types import IntArray
from metarec_core.errors import ConfigError, ModelError
from metarec_core.ranking.search.blocks import ItemBlocks, integers_are_exact
from metarec_core.ranking.search.closed import Closed
from metarec_core.ranking.search.dense import DenseSearch
from metarec_core.ranking.search.scores import BoolArray, DoubleArray, padded
from metarec_core.ranking.search.tiles import TiledSearch
from metarec_core.ranking.search.wide import MOST, Sizes, WideSearch, norms

_MOST_DIMENSIONS = 4096
"""Up to here float32 holds a product of eight-bit integers to within the error allowed for."""

_Search = TiledSearch | DenseSearch | WideSearch


class Found(NamedTuple):
    """The best of each query, best first, equal scores by catalogue index.

    Attributes:
        items: Catalogue indices, ``[U, K]`` int64; -1 where fewer are open.
        scores: ``[U, K]`` float64; -inf there.
    """

    items: IntArray
    scores: DoubleArray


class FactorIndex:
    """Items whose scores are ``query @ vectors[i] + appeal[i]``.

    Args:
        vectors: ``[I, d]`` float32 or float64; kept as they are, on the device of the search.
        appeal: ``[I]`` float64; None for none.
        open_items: Items that may be found by anyone, ``[I]`` bool; None for all.
        typical_norm: Norm of a usual query: those are served quickest.
        prepared: Whether items are put into blocks, which takes as long as it takes to score them
            all for some dozens of queries; without, all are scored.

    Raises:
        ModelError: If vectors or appeal are not finite numbers, or do not belong together.
    """

    def __init__(
        self,
        vectors: Tensor,
        appeal: Tensor | None = None,
        *,
        open_items: BoolArray | None = None,
        typical_norm: float = 1.0,
        prepared: bool = True,
    ) -> None:
        appeal = torch.zeros(len(vectors)) if appeal is None else appeal
        _check_items(vectors, appeal, open_items)
        self.n_items, self.dim = vectors.shape
        self._vectors = padded(vectors).contiguous()
        self._appeal = appeal.detach().double().cpu().numpy()
        self._norm = norms(self._vectors).cpu().numpy()
        everything = np.ones(self.n_items, dtype=np.bool_)
        self._open(everything if open_items is None else open_items, typical_norm, prepared)

    def within(
        self, open_items: BoolArray, *, typical_norm: float = 1.0, prepared: bool = True
    ) -> FactorIndex:
        """The same items, of which others are open; they are held once."""
        other = copy(self)
        other._open(open_items, typical_norm, prepared)
        return other

    def _open(self, open_items: BoolArray, typical_norm: float, prepared: bool) -> None:
        self.n_open = int(open_items.sum())
        self._sizes = Sizes.of(self._norm, self._appeal, open_items)
        self._wide = WideSearch(self._vectors, self._appeal, open_items)
        self._search: _Search = self._wide
        on_cpu = self._vectors.device.type == "cpu"
        if not self._sizes.fit or (on_cpu and not prepared):
            return
        if on_cpu and self.dim <= _MOST_DIMENSIONS and integers_are_exact():
            blocks = ItemBlocks.of(
                self._vectors, self._norm, self._appeal, open_items, typical_norm
            )
            self._search = TiledSearch(blocks, self._vectors, self._appeal)
        else:
            self._search = DenseSearch(self._vectors, self._appeal, open_items)

    @property
    def n_bytes(self) -> int:
        """About what is held for the open items, beside the vectors of all."""
        return self.n_items * 10 + self.n_open * (self._vectors.shape[1] + 24)

    def search(
        self,
        queries: Tensor,
        k: int,
        *,
        closed: Closed | None = None,
        step: float = 0.0,
        threads: int = 1,
    ) -> Found:
        """The ``k`` best open items of each query.

        Args:
            queries: ``[U, d]``; float64 decides, whatever is given.
            k: Most items, at least 1.
            closed: What each user may not be given beside what is closed to all.
            step: Step of a grid that scores are rounded to before they are compared; 0 for none.
            threads: Threads on a CPU; more than there are idle cores do not help.

        Returns:
            What float64 scores of all items would give.

        Raises:
            ConfigError: If a parameter is out of range.
            ModelError: If queries, or scores in float64, are not finite numbers, or queries do not
                fit the items.
        """
        for name, value, least in (("k", k, 1), ("threads", threads, 1), ("step", step, 0)):
            if value < least:
                raise ConfigError(
                    f"parameter {name}",
                    found=str(value),
                    wanted=f"at least {least}",
                    next_step=f"ask for {name}={least} or more",
                )
        if step and not 1.0 / MOST <= step <= MOST:
            raise ConfigError(
                "parameter step",
                found=str(step),
                wanted=f"0, or from {1.0 / MOST:.0e} to {MOST:.0e}",
                next_step="ask for step=0, which rounds nothing",
            )
        closed = Closed.nothing(len(queries)) if closed is None else closed
        self._check_queries(queries, closed)
        places = min(k, self.n_open)
        items = np.full((len(queries), k), -1, dtype=np.int64)
        scores = np.full((len(queries), k), -np.inf)
        if places and len(queries):
            wide = padded(queries.detach().double()).contiguous()
            for search, rows in self._ways(wide):
                part, shut = wide, closed
                if len(rows) < len(wide):
                    part = wide[torch.from_numpy(rows).to(wide.device)]
                    shut = closed.select(rows)
                found = search.search(part, places, shut, step, threads)
                items[rows, :places], scores[rows, :places] = found
        return Found(items, scores)

    def _ways(self, queries: Tensor) -> list[tuple[_Search, IntArray]]:
        """Which rows are searched how: a few users of huge norms do not slow the others."""
        beyond = self._sizes.beyond(queries)
        ways: list[tuple[_Search, IntArray]] = [
            (self._search, np.flatnonzero(~beyond)),
            (self._wide, np.flatnonzero(beyond)),
        ]
        return [(search, rows) for search, rows in ways if len(rows)]

    def _check_queries(self, queries: Tensor, closed: Closed) -> None:
        faults = []
        if queries.dim() != 2 or queries.shape[1] != self.dim:
            faults.append(f"queries of shape {list(queries.shape)}")
        elif not bool(queries.isfinite().all()):
            rows = (~queries.isfinite().all(dim=1)).nonzero().squeeze(1)
            faults.append(
                f"scores that are NaN or infinite: queries of {len(rows)} user(s), the first in "
                f"row {int(rows[0])}"
            )
        if closed.n_users != len(queries):
            faults.append(f"closed items of {closed.n_users} users for {len(queries)} queries")
        elif len(closed.items) and not 0 <= closed.items.min() <= closed.items.max() < self.n_items:
            faults.append(
                f"closed items from {closed.items.min()} to {closed.items.max()} in a catalogue "
                f"of {self.n_items}"
            )
        if faults:
            raise ModelError(
                "search of the best items",
                found="; ".join(faults),
                wanted=f"finite queries of {self.dim} dimensions, one row of closed items each",
                next_step="take learner, histories and catalogue from one bundle; train it again "
                "if its numbers are not finite",
            )


def _check_items(vectors: Tensor, appeal: Tensor, open_items: BoolArray | None) -> None:
    faults = []
    if vectors.dim() != 2:
        faults.append(f"vectors of shape {list(vectors.shape)}")
    elif appeal.shape != vectors.shape[:1]:
        faults.append(f"appeal of shape {list(appeal.shape)} for {len(vectors)} items")
    elif open_items is not None and open_items.shape != (len(vectors),):
        faults.append(f"a mask of shape {list(open_items.shape)} for {len(vectors)} items")
    elif not bool(vectors.isfinite().all()) or not bool(appeal.isfinite().all()):
        good = vectors.isfinite().all(dim=1) & appeal.isfinite()
        rows = (~good).nonzero().squeeze(1)
        faults.append(
            f"vectors or appeal of {len(rows)} item(s) that are NaN or infinite, the first at "
            f"catalogue index {int(rows[0])}"
        )
    if faults:
        raise ModelError(
            "items to search",
            found="; ".join(faults),
            wanted="a finite vector and appeal for each item of the catalogue",
            next_step="train the learner again; a learning rate that is too high can do this",
        )
