"""Episodes: disjoint, complete, seeded, log-uniform."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metarec_core.episodes.sampling import (
    EpisodeSampler,
    draw_support_sizes,
    evaluation_episodes,
    full_support,
)
from metarec_core.episodes.types import Episode, TaskData


def pairs(items: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, row: int) -> set:
    return {
        (int(item), round(float(value), 4))
        for item, value, real in zip(items[row], values[row], mask[row], strict=True)
        if real
    }


def parts(episode: Episode, row: int) -> tuple[set, set]:
    support = episode.support
    return (
        pairs(support.items, support.values, support.mask, row),
        pairs(episode.items, episode.values, episode.mask, row),
    )


def history(data: TaskData, user: int) -> set:
    matrix = data.interactions
    where = slice(matrix.indptr[user], matrix.indptr[user + 1])
    return {
        (int(item), round(float(value), 4))
        for item, value in zip(matrix.items[where], matrix.values[where], strict=True)
    }


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=20),
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(0, 5),
)
def test_support_and_query_are_disjoint_parts_of_one_history(
    make_data, counts: list[int], max_support: int, max_query: int, seed: int
) -> None:
    data = make_data(counts)
    sampler = EpisodeSampler(data, max_support=max_support, max_query=max_query, batch_size=4)
    met = []
    for episode in sampler.epoch(np.random.default_rng(seed)):
        for row in range(len(episode.items)):
            user = int(episode.support.user_features[row, 0])
            support, query = parts(episode, row)
            known = history(data, user)
            met.append(user)
            assert not support & query
            assert support | query <= known
            assert len(support) <= max_support
            assert len(query) == min(max_query, len(known) - len(support)) > 0
    assert sorted(met) == [user for user, count in enumerate(counts) if count >= 2]


def test_the_same_seed_gives_the_same_episodes(data: TaskData) -> None:
    def epoch(seed: int) -> list[Episode]:
        sampler = EpisodeSampler(data, max_support=8, max_query=8, batch_size=3)
        return list(sampler.epoch(np.random.default_rng(seed)))

    for one, two in zip(epoch(3), epoch(3), strict=True):
        assert torch.equal(one.support.items, two.support.items)
        assert torch.equal(one.items, two.items)
    assert any(
        one.items.shape != two.items.shape or not torch.equal(one.items, two.items)
        for one, two in zip(epoch(3), epoch(4), strict=True)
    )


def test_support_sizes_are_log_uniform_with_zero() -> None:
    sizes = draw_support_sizes(np.full(200_000, 63), np.random.default_rng(0))
    assert (sizes.min(), sizes.max()) == (0, 63)
    # size + 1 is log-uniform on [1, 65): each doubling has the same share.
    doublings = np.histogram(np.log2(sizes + 1), bins=[0, 1, 2, 3, 4, 5, 6])[0] / len(sizes)
    np.testing.assert_allclose(doublings, np.log(2) / np.log(65), atol=0.01)


def test_evaluation_supports_are_nested_and_queries_fixed(data: TaskData) -> None:
    users = np.arange(data.n_users)
    tasks = evaluation_episodes(data, users, support_sizes=(0, 1, 5, 10), max_query=8, seed=1)
    by_user: dict[int, dict[int, tuple[set, set]]] = {}
    count = 0
    for batch in tasks.batches(3):
        assert len(batch.users) <= 3
        assert len(set(batch.support_size.tolist())) == 1
        for row, user in enumerate(batch.users):
            count += 1
            by_user.setdefault(int(user), {})[int(batch.support_size[row])] = parts(
                batch.episode, row
            )
    assert count == len(tasks)
    assert 0 not in by_user
    for user, sizes in by_user.items():
        n = int(data.interactions.counts()[user])
        query = min(8, (n + 1) // 2)
        assert set(sizes) == {size for size in (0, 1, 5, 10) if size <= n - query}
        queries = [found for _, found in sizes.values()]
        assert all(found == queries[0] and len(found) == query for found in queries)
        nested = [sizes[size][0] for size in sorted(sizes)]
        assert all(small <= large for small, large in pairwise(nested))
        for size, (support, found) in sizes.items():
            assert len(support) == size
            assert not support & found


@pytest.mark.parametrize("size", [1, 2, 100])
def test_batch_size_changes_no_task(data: TaskData, size: int) -> None:
    def tasks(batch: int) -> set:
        sampled = evaluation_episodes(
            data, np.arange(data.n_users), support_sizes=(0, 3), max_query=5, seed=9
        )
        return {
            (int(user), int(part.support_size[row]), *map(frozenset, parts(part.episode, row)))
            for part in sampled.batches(batch)
            for row, user in enumerate(part.users)
        }

    assert tasks(size) == tasks(7)


def test_full_support_is_the_whole_history(data: TaskData) -> None:
    users = np.array([6, 0, 4])
    support = full_support(data, users)
    for row, user in enumerate(users):
        assert pairs(support.items, support.values, support.mask, row) == history(data, int(user))
    assert support.sizes.tolist() == [50, 0, 7]


def test_cut_by_time_a_query_comes_after_its_support(make_data) -> None:
    data = make_data([12, 30, 2, 9])
    rng = np.random.default_rng(0)
    times = rng.permutation(len(data.interactions.items)).astype(np.int64)
    data = replace(data, interactions=replace(data.interactions, times=times), by_time=True)
    when = {
        (user, int(data.interactions.items[place])): int(times[place])
        for user in range(data.n_users)
        for place in range(*data.interactions.indptr[user : user + 2])
    }
    sampled = EpisodeSampler(data, max_support=6, max_query=4, batch_size=3).epoch(rng)
    fixed = evaluation_episodes(
        data, np.arange(4), support_sizes=[0, 1, 4], max_query=4, seed=0
    ).batches(2)
    queries: dict[int, set[tuple[int, ...]]] = {}
    for episode in [*sampled, *(batch.episode for batch in fixed)]:
        for row, user in enumerate(episode.users.tolist()):
            support = episode.support.items[row][episode.support.mask[row]].tolist()
            query = episode.items[row][episode.mask[row]].tolist()
            last = max((when[user, item] for item in support), default=-1)
            earlier = [at for (who, _), at in when.items() if who == user and at <= last]
            assert len(earlier) == len(support), "a support is all that lies before its end"
            assert all(when[user, item] > last for item in query)
            queries.setdefault(user, set()).add(tuple(query))
    assert len(queries[1]) > 1
