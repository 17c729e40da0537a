"""Items that are closed to a user: seen, denied, or otherwise not to be found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from metarec_core.episodes.types import IntArray, InteractionMatrix


@dataclass(frozen=True, slots=True)
class Closed:
    """Closed items in CSR form, one row a user.

    Attributes:
        indptr: Row boundaries, ``[U + 1]`` int64.
        items: Catalogue indices, ``[N]`` int64; in any order, repeated ones do no harm.
    """

    indptr: IntArray
    items: IntArray

    @classmethod
    def nothing(cls, n_users: int) -> Self:
        """Everything is open to everyone."""
        return cls(np.zeros(n_users + 1, dtype=np.int64), np.zeros(0, dtype=np.int64))

    @classmethod
    def seen(cls, histories: InteractionMatrix) -> Self:
        """What each user has interacted with."""
        return cls(histories.indptr, histories.items)

    @property
    def n_users(self) -> int:
        """Number of rows."""
        return len(self.indptr) - 1

    def rows(self, start: int, stop: int) -> Closed:
        """The rows from ``start`` to ``stop``."""
        first, last = self.indptr[start], self.indptr[stop]
        return Closed(self.indptr[start : stop + 1] - first, self.items[first:last])

    def of(self, user: int) -> IntArray:
        """The items of one row."""
        return self.items[self.indptr[user] : self.indptr[user + 1]]

    def select(self, users: IntArray) -> Closed:
        """The rows of ``users``, in that order."""
        counts = self.indptr[users + 1] - self.indptr[users]
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        within = np.arange(indptr[-1]) - np.repeat(indptr[:-1], counts)
        return Closed(indptr, self.items[np.repeat(self.indptr[users], counts) + within])
