"""Sample episodes: a user's interactions, shuffled and cut into a support and a query."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from metarec_core.episodes.batch import EvaluationBatch
from metarec_core.episodes.padding import pad, padded_support, within
from metarec_core.episodes.types import Episode, FloatArray, IntArray, Support, TaskData


@dataclass(frozen=True, slots=True)
class _Ordered:
    """Interactions of a batch of users, in the order in which they are cut."""

    rows: IntArray
    ranks: IntArray
    items: IntArray
    values: FloatArray
    counts: IntArray


def draw_support_sizes(limits: IntArray, rng: np.random.Generator) -> IntArray:
    """Log-uniform support sizes, zero and the limit included.

    ``size + 1`` is log-uniform on ``[1, limit + 2)`` and rounded down: one more interaction
    matters less the more there are.

    Args:
        limits: Largest size of each task, ``[B]``.
        rng: Source of randomness.

    Returns:
        Sizes, ``[B]``.
    """
    draws = np.exp(rng.random(len(limits)) * np.log(limits + 2))
    return np.minimum(draws.astype(np.int64) - 1, limits)


class EpisodeSampler:
    """Endless seeded batches of training episodes.

    Args:
        data: The tasks to draw from; users with fewer than two interactions are left out.
        max_support: Largest support set.
        max_query: Largest query set.
        batch_size: Tasks a batch.
    """

    def __init__(
        self, data: TaskData, *, max_support: int, max_query: int, batch_size: int
    ) -> None:
        self._data = data
        self._users = np.flatnonzero(data.interactions.counts() >= 2)
        self._max_support = max_support
        self._max_query = max_query
        self._batch_size = batch_size

    @property
    def n_tasks(self) -> int:
        """Users that episodes are drawn from."""
        return len(self._users)

    @property
    def batches_per_epoch(self) -> int:
        """Batches in which every task comes once."""
        return -(-len(self._users) // self._batch_size)

    def epoch(self, rng: np.random.Generator) -> Iterator[Episode]:
        """Every task once, in random order, with fresh supports and queries."""
        order = rng.permutation(self._users)
        for start in range(0, len(order), self._batch_size):
            users = order[start : start + self._batch_size]
            ordered = _in_order(self._data, users, rng)
            limits = np.minimum(self._max_support, ordered.counts - 1)
            sizes = draw_support_sizes(limits, rng)
            if self._data.by_time:
                ordered = _later_shuffled(ordered, sizes, rng)
            yield _cut(self._data, users, ordered, sizes, sizes, self._max_query)


class EvaluationTasks:
    """Fixed tasks: one order a user, one query a user, supports that are nested prefixes.

    Args:
        data: Where users live.
        users: Rows of the users to evaluate.
        support_sizes: Sizes wanted; a user has a task at each size that the interactions
            outside the query suffice for.
        max_query: Largest query; a user's query is the last half of the order, at most so many.
        seed: Seed of the shuffle.
        rank_reserved: Whether *reserved* items compete in rankings, which the user met but which
            are neither in the support nor in the query. Ranked, they count as misses though the
            user may well like them, and fewer of them are left the larger the support is:
            figures rise with the support size even for a learner that does not adapt. Left out,
            the same items compete at every size, and such a learner scores the same at each.
            Comparisons at one size are paired either way.
    """

    def __init__(
        self,
        data: TaskData,
        users: IntArray,
        *,
        support_sizes: Sequence[int],
        max_query: int,
        seed: int,
        rank_reserved: bool = True,
    ) -> None:
        self.data = data
        self.users = np.asarray(users, dtype=np.int64)
        self.support_sizes = tuple(sorted(set(support_sizes)))
        self._max_query = max_query
        self._rank_reserved = rank_reserved
        self._ordered = _in_order(data, self.users, np.random.default_rng(seed))
        counts = self._ordered.counts
        pool = counts - np.minimum(max_query, (counts + 1) // 2)
        # A user without interactions has no query and so no task, not even without support.
        self._pool = np.where(counts > 0, pool, -1)

    @property
    def n_items(self) -> int:
        """Size of the catalogue that is ranked."""
        return self.data.n_items

    def __len__(self) -> int:
        return int(sum((self._pool >= size).sum() for size in self.support_sizes))

    def batches(self, size: int) -> Iterator[EvaluationBatch]:
        """All tasks, at most ``size`` at once, by support size and then by user."""
        for support_size in self.support_sizes:
            eligible = np.flatnonzero(self._pool >= support_size)
            for start in range(0, len(eligible), size):
                rows = eligible[start : start + size]
                part = _take(self._ordered, rows)
                sizes = np.full(len(rows), support_size, dtype=np.int64)
                episode = _cut(
                    self.data, self.users[rows], part, sizes, self._pool[rows], self._max_query
                )
                targets = episode.mask & (episode.values >= self.data.scale.relevant_from)
                excluded = self._excluded(self.users[rows], episode)
                yield EvaluationBatch(self.users[rows], sizes, episode, targets, excluded)

    def _excluded(self, users: IntArray, episode: Episode) -> torch.Tensor:
        excluded = torch.zeros(len(users), self.n_items, dtype=torch.bool)
        if self._rank_reserved:
            rows, columns = episode.support.mask.nonzero(as_tuple=True)
            excluded[rows, episode.support.items[rows, columns]] = True
            return excluded
        own, positions = self.data.interactions.entries(users)
        met = torch.from_numpy(self.data.interactions.items[positions])
        excluded[torch.from_numpy(own), met] = True
        rows, columns = episode.mask.nonzero(as_tuple=True)
        excluded[rows, episode.items[rows, columns]] = False
        return excluded


def evaluation_episodes(
    data: TaskData,
    users: IntArray,
    *,
    support_sizes: Sequence[int],
    max_query: int,
    seed: int,
    rank_reserved: bool = True,
) -> EvaluationTasks:
    """Fixed evaluation tasks of ``users``; see :class:`EvaluationTasks`."""
    return EvaluationTasks(
        data,
        users,
        support_sizes=support_sizes,
        max_query=max_query,
        seed=seed,
        rank_reserved=rank_reserved,
    )


def full_support(data: TaskData, users: IntArray) -> Support:
    """Everything known of ``users`` as one padded batch, ``S`` the longest history."""
    rows, positions = data.interactions.entries(users)
    counts = data.interactions.indptr[users + 1] - data.interactions.indptr[users]
    columns = within(counts)
    width = int(counts.max(initial=0))
    return padded_support(
        data,
        users,
        rows,
        columns,
        data.interactions.items[positions],
        data.interactions.values[positions],
        width,
    )


def _in_order(data: TaskData, users: IntArray, rng: np.random.Generator) -> _Ordered:
    """In random order, or by time with ties in random order."""
    rows, positions = data.interactions.entries(users)
    counts = data.interactions.indptr[users + 1] - data.interactions.indptr[users]
    draws = rng.random(len(rows))
    if data.by_time:
        assert data.interactions.times is not None, "tasks cut by time have times"
        order = np.lexsort((draws, data.interactions.times[positions], rows))
    else:
        # One key, the row before the point and the draw behind it: two keys take much longer.
        order = np.argsort(rows + draws)
    return _Ordered(
        rows=rows,
        ranks=within(counts),
        items=data.interactions.items[positions[order]],
        values=data.interactions.values[positions[order]],
        counts=counts,
    )


def _later_shuffled(ordered: _Ordered, sizes: IntArray, rng: np.random.Generator) -> _Ordered:
    """Supports as they are, all that follows in random order: a query is a sample of the future."""
    draws = rng.random(len(ordered.rows))
    later = np.where(ordered.ranks < sizes[ordered.rows], 0.0, 1.0 - draws)
    order = np.lexsort((ordered.ranks, later, ordered.rows))
    return replace(ordered, items=ordered.items[order], values=ordered.values[order])


def _take(ordered: _Ordered, rows: IntArray) -> _Ordered:
    counts = ordered.counts[rows]
    starts = np.cumsum(ordered.counts) - ordered.counts
    ranks = within(counts)
    positions = np.repeat(starts[rows], counts) + ranks
    return _Ordered(
        rows=np.repeat(np.arange(len(rows)), counts),
        ranks=ranks,
        items=ordered.items[positions],
        values=ordered.values[positions],
        counts=counts,
    )


def _cut(
    data: TaskData,
    users: IntArray,
    ordered: _Ordered,
    support_sizes: IntArray,
    query_starts: IntArray,
    max_query: int,
) -> Episode:
    """Support: ranks below ``support_sizes``; query: ranks from ``query_starts`` on."""
    rows, ranks = ordered.rows, ordered.ranks
    known = ranks < support_sizes[rows]
    offset = ranks - query_starts[rows]
    asked = (offset >= 0) & (offset < max_query)
    support = padded_support(
        data,
        users,
        rows[known],
        ranks[known],
        ordered.items[known],
        ordered.values[known],
        int(support_sizes.max(initial=0)),
    )
    width = int(offset[asked].max(initial=-1)) + 1
    shape = (len(users), width)
    items, values, mask = pad(
        shape, rows[asked], offset[asked], ordered.items[asked], ordered.values[asked]
    )
    return Episode(torch.from_numpy(users), support, items, values, mask)
