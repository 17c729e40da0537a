"""Tasks that were laid down one by one: who is asked what, knowing what, among which items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from metarec_core.episodes.batch import EvaluationBatch
from metarec_core.episodes.padding import pad, within
from metarec_core.episodes.types import (
    Episode,
    FloatArray,
    IntArray,
    InteractionMatrix,
    Support,
)

_SUPPORT_AT_ONCE = 2**16
"""Support entries of a batch, padding included: at 64 float64 dimensions, 32 MB."""


@dataclass(frozen=True, slots=True)
class FixedTasks:
    """Explicit supports, queries, targets and candidates, one row a task.

    Rows of the three matrices keep the order that they were given in.

    Attributes:
        users: Who is asked, ``[T]``; the same number in two sets is the same user.
        user_features: ``[T, Fu]`` float32.
        n_items: Size of the catalogue, I.
        support: What is known, T rows.
        query: What is asked, T rows, disjoint from the support.
        targets: Which query entries a ranking should hold first, one flag an entry of ``query``.
        excluded: Items that do not compete, T rows, such as those reserved for larger supports;
            None for the support alone. Its values are not read.
        candidates: The only catalogue items that compete, ``[C]``; None for all.
        among_query: Whether the query items alone compete, in the order of their forecasts.
        tie_seed: See :class:`EvaluationBatch`.
    """

    users: IntArray
    user_features: FloatArray
    n_items: int
    support: InteractionMatrix
    query: InteractionMatrix
    targets: npt.NDArray[np.bool_]
    excluded: InteractionMatrix | None = None
    candidates: IntArray | None = None
    among_query: bool = False
    tie_seed: int | None = None

    def __len__(self) -> int:
        return len(self.users)

    def batches(self, size: int) -> Iterator[EvaluationBatch]:
        """All tasks in their order, at most ``size`` at once; long supports lower it."""
        widths = self.support.counts()
        start = 0
        while start < len(self.users):
            ahead = np.maximum.accumulate(widths[start : start + size])
            fits = np.arange(1, len(ahead) + 1) * ahead <= _SUPPORT_AT_ONCE
            stop = start + max(1, int(fits.sum()))
            yield self._batch(np.arange(start, stop))
            start = stop

    def _batch(self, rows: IntArray) -> EvaluationBatch:
        users = self.users[rows]
        support = Support(*_padded(self.support, rows), torch.from_numpy(self.user_features[rows]))
        items, values, mask = _padded(self.query, rows)
        episode = Episode(torch.from_numpy(users), support, items, values, mask)
        targets = torch.zeros_like(mask)
        owners, positions = self.query.entries(rows)
        targets[mask] = torch.from_numpy(self.targets[positions])
        sizes = support.sizes.numpy()
        assert len(owners) == int(mask.sum())
        return EvaluationBatch(
            users, sizes, episode, targets, self._excluded(rows), tie_seed=self.tie_seed
        )

    def _excluded(self, rows: IntArray) -> torch.Tensor | None:
        if self.among_query:
            return None
        excluded = torch.full((len(rows), self.n_items), self.candidates is not None)
        if self.candidates is not None:
            excluded[:, torch.from_numpy(self.candidates)] = False
        for matrix in (self.support, self.excluded):
            if matrix is not None:
                owners, positions = matrix.entries(rows)
                items = torch.from_numpy(matrix.items[positions])
                excluded[torch.from_numpy(owners), items] = True
        return excluded


def stacked(parts: Sequence[FixedTasks]) -> FixedTasks:
    """Tasks one set after the other; all sets agree on what competes."""
    first = parts[0]
    assert all(part.excluded is None for part in parts)
    return replace(
        first,
        users=np.concatenate([part.users for part in parts]),
        user_features=np.concatenate([part.user_features for part in parts]),
        support=_joined([part.support for part in parts]),
        query=_joined([part.query for part in parts]),
        targets=np.concatenate([part.targets for part in parts]),
    )


def _joined(parts: Sequence[InteractionMatrix]) -> InteractionMatrix:
    counts = np.concatenate([part.counts() for part in parts])
    return InteractionMatrix(
        indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        items=np.concatenate([part.items for part in parts]),
        values=np.concatenate([part.values for part in parts]),
    )


def rows_of(lists: Sequence[tuple[IntArray, FloatArray]]) -> InteractionMatrix:
    """A matrix whose rows are ``lists``: items and values of each, in their order."""
    counts = np.array([len(items) for items, _ in lists], dtype=np.int64)
    empty = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))
    return InteractionMatrix(
        indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        items=np.concatenate([empty[0], *(items for items, _ in lists)]).astype(np.int64),
        values=np.concatenate([empty[1], *(values for _, values in lists)]).astype(np.float32),
    )


def _padded(
    matrix: InteractionMatrix, rows: IntArray
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    owners, positions = matrix.entries(rows)
    counts = matrix.indptr[rows + 1] - matrix.indptr[rows]
    shape = (len(rows), int(counts.max(initial=0)))
    return pad(shape, owners, within(counts), matrix.items[positions], matrix.values[positions])
