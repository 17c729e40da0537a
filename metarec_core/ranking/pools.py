"""The best open candidates of a group of users, whatever the learner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from metarec_core.episodes.types import IntArray
from metarec_core.errors import ModelError
from metarec_core.ranking.grid import STEP, on_grid
from metarec_core.ranking.indexes import Indexes
from metarec_core.ranking.search import Closed
from metarec_core.ranking.search.scores import BoolArray, DoubleArray
from metarec_core.ranking.topk import top_k


class Pool(NamedTuple):
    """The best open candidates of each user, best first, equal scores by catalogue index.

    Attributes:
        items: Catalogue indices, ``[B, P]``; -1 where a user has no more.
        scores: ``[B, P]``, on the grid of :mod:`metarec_core.ranking.grid`; -inf there.
    """

    items: IntArray
    scores: DoubleArray


class Group(Protocol):
    """Users whose candidates can be asked for."""

    def best(self, depth: int, rows: IntArray | None = None, only: BoolArray | None = None) -> Pool:
        """The best open candidates.

        Args:
            depth: Most candidates a user.
            rows: Users of the group; None for all.
            only: Items that candidates are to be among, ``[I]``; None for all.
        """
        ...


@dataclass(frozen=True, slots=True)
class SearchedGroup:
    """Users of a learner whose scores are products.

    Attributes:
        indexes: The items.
        queries: ``[B, d]`` float64.
        masks: Open items of groups of users, ``[G, I]``.
        mask_of_user: Which of them is each user's, ``[B]``.
        closed: What is closed to each user beside.
        threads: Threads of the search.
    """

    indexes: Indexes
    queries: Tensor
    masks: BoolArray
    mask_of_user: IntArray
    closed: Closed
    threads: int

    def best(self, depth: int, rows: IntArray | None = None, only: BoolArray | None = None) -> Pool:
        """See :meth:`Group.best`."""
        rows = np.arange(len(self.queries)) if rows is None else rows
        items = np.full((len(rows), depth), -1, dtype=np.int64)
        scores = np.full((len(rows), depth), -np.inf)
        for number in np.unique(self.mask_of_user[rows]).tolist():
            places = np.flatnonzero(self.mask_of_user[rows] == number)
            mask = self.masks[number] if only is None else self.masks[number] & only
            if not mask.any():
                continue
            queries = self.queries[torch.from_numpy(rows[places]).to(self.queries.device)]
            found = self.indexes.get(mask, queries).search(
                queries,
                depth,
                closed=self.closed.select(rows[places]),
                step=STEP,
                threads=self.threads,
            )
            items[places], scores[places] = found
        return Pool(items, scores)


@dataclass(frozen=True, slots=True)
class ScoredGroup:
    """Users all of whose scores are there.

    Attributes:
        scores: ``[B, C]``, on the grid; -inf for what is closed.
        columns: Catalogue index of each column; None for the whole catalogue.
    """

    scores: Tensor
    columns: Tensor | None

    @classmethod
    def of(
        cls,
        scores: Tensor,
        columns: Tensor | None,
        n_items: int,
        masks: BoolArray,
        mask_of_user: IntArray,
        closed: Closed,
        learner: str,
    ) -> ScoredGroup:
        """Put scores on the grid, and close what is closed.

        Args:
            scores: ``[B, C]``; not changed.
            columns: Catalogue index of each column, ascending; None for all items.
            n_items: Size of the catalogue.
            masks: Open items of groups of users, ``[G, I]``.
            mask_of_user: Which of them is each user's, ``[B]``.
            closed: What is closed to each user beside.
            learner: Name of the learner, for messages.

        Raises:
            ModelError: If scores are NaN or infinite.
        """
        device = scores.device
        # Also a copy: a predictor may hand out what it keeps, or one row for everyone.
        scores = on_grid(scores)
        if scores.shape[1] and not bool((scores.amax(dim=1) < torch.inf).all()):
            raise ModelError(
                f"learner {learner}",
                found="scores that are NaN or infinite",
                wanted="finite scores",
                next_step="train it again; a learning rate that is too high can do this",
            )
        place = torch.full((n_items,), -1, dtype=torch.int64, device=device)
        own = torch.arange(n_items, device=device) if columns is None else columns
        place[own] = torch.arange(len(own), device=device)
        shut = place[torch.from_numpy(closed.items).to(device)]
        rows = torch.from_numpy(np.repeat(np.arange(len(scores)), np.diff(closed.indptr)))
        rows = rows.to(device)[shut >= 0]
        scores[rows, shut[shut >= 0]] = -torch.inf
        # Of many masks few are those of a block's users.
        groups, group_of_user = np.unique(mask_of_user, return_inverse=True)
        held = torch.from_numpy(masks[groups]).to(device)
        held = held if columns is None else held[:, own]
        if not bool(held.all()):
            scores.masked_fill_(~held[torch.from_numpy(group_of_user).to(device)], -torch.inf)
        return cls(scores, columns)

    def best(self, depth: int, rows: IntArray | None = None, only: BoolArray | None = None) -> Pool:
        """See :meth:`Group.best`."""
        scores = self.scores
        if rows is not None:
            scores = scores[torch.from_numpy(rows).to(scores.device)]
        if only is not None:
            allowed = torch.from_numpy(only).to(scores.device)
            allowed = allowed if self.columns is None else allowed[self.columns]
            scores = scores.masked_fill(~allowed, -torch.inf)
        items = np.full((len(scores), depth), -1, dtype=np.int64)
        values = np.full((len(scores), depth), -np.inf)
        if scores.shape[1]:
            best = top_k(scores, depth)
            found = best.indices if self.columns is None else self.columns[best.indices]
            places = found.shape[1]
            values[:, :places] = best.values.double().cpu().numpy()
            items[:, :places] = found.masked_fill(best.values == -torch.inf, -1).cpu().numpy()
        return Pool(items, values)
