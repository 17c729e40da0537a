"""The search against float64 scores of all items."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metarec_core.errors import ConfigError, ModelError
from metarec_core.ranking.search import Closed, FactorIndex
from metarec_core.ranking.search import index as index_module
from metarec_core.ranking.search import tiles as tiles_module

STEP = 2.0**-20


def summed(queries, vectors, appeal):
    """Float64 scores of all items in the order of summation that is promised, in plain Python."""
    scores = np.empty((len(queries), len(vectors)))
    for row, query in enumerate(queries.double().tolist()):
        for item, vector in enumerate(vectors.double().tolist()):
            lanes = [0.0] * 8
            for place, (left, right) in enumerate(zip(query, vector, strict=True)):
                lanes[place % 8] += left * right
            pairs = [lanes[0] + lanes[1], lanes[2] + lanes[3], lanes[4] + lanes[5]]
            pairs.append(lanes[6] + lanes[7])
            total = (pairs[0] + pairs[1]) + (pairs[2] + pairs[3])
            scores[row, item] = total + float(appeal[item])
    return scores


def brute_force(scores, k, closed, open_items, step=0.0):
    items = np.full((len(scores), k), -1)
    best = np.full((len(scores), k), -np.inf)
    for row, raw in enumerate(scores):
        line = np.round(raw * (1 / step)) / (1 / step) if step else raw
        shut = set(closed.items[closed.indptr[row] : closed.indptr[row + 1]].tolist())
        ranked = sorted(
            (item for item in range(len(line)) if open_items[item] and item not in shut),
            key=lambda item: (-line[item], item),
        )[:k]
        items[row, : len(ranked)] = ranked
        best[row, : len(ranked)] = line[ranked]
    return items, best


def closed_of(rows):
    counts = [len(row) for row in rows]
    return Closed(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.array([item for row in rows for item in row], dtype=np.int64),
    )


@st.composite
def problems(draw):
    """Factors with ties, copies, zeros and skewed norms; closed items; masks."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_users, n_items = draw(st.integers(1, 9)), draw(st.integers(1, 300))
    dim = draw(st.sampled_from([1, 3, 8, 17, 32]))
    vectors = rng.standard_normal((n_items, dim)) * rng.exponential(1.0, (n_items, 1))
    queries = rng.standard_normal((n_users, dim)) * draw(st.sampled_from([1e-3, 1.0, 50.0]))
    if draw(st.booleans()):  # copies: exact ties
        vectors = vectors[rng.integers(0, max(1, n_items // 4), n_items)]
    if draw(st.booleans()):  # coarse: many equal scores
        vectors, queries = vectors.round(), queries.round()
    if draw(st.booleans()):
        queries[0] = 0.0
    appeal = rng.standard_normal(n_items) * draw(st.sampled_from([0.0, 0.1, 30.0]))
    rows = [
        rng.choice(n_items, rng.integers(0, n_items + 1), replace=False) for _ in range(n_users)
    ]
    mask = rng.random(n_items) < draw(st.sampled_from([0.3, 1.0]))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    return (
        torch.from_numpy(queries).to(dtype),
        torch.from_numpy(vectors).to(dtype),
        torch.from_numpy(appeal),
        closed_of(rows),
        mask,
        draw(st.integers(1, n_items + 3)),
        draw(st.sampled_from([0.0, STEP, 0.25])),
    )


@settings(max_examples=150, deadline=None)
@given(problem=problems())
def test_the_search_is_a_brute_force(problem):
    check(problem)


@settings(max_examples=60, deadline=None)
@given(problem=problems())
def test_so_is_the_one_by_plain_products(problem):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "integers_are_exact", lambda: False)
        check(problem)


def check(problem):
    queries, vectors, appeal, closed, mask, k, step = problem
    index = FactorIndex(vectors, appeal, open_items=mask)
    found = index.search(queries, k, closed=closed, step=step)
    items, scores = brute_force(summed(queries, vectors, appeal), k, closed, mask, step)
    assert np.array_equal(found.items, items)
    assert np.array_equal(found.scores, scores)


def factors(n_users=300, n_items=5000, dim=24, seed=0):
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(n_items, dim, generator=generator, dtype=torch.float64)
    vectors *= torch.rand(n_items, 1, generator=generator, dtype=torch.float64) * 3.0
    queries = torch.randn(n_users, dim, generator=generator, dtype=torch.float64)
    return queries, vectors


@pytest.mark.parametrize("k", [1, 10, 100])
def test_several_blocks_of_items(k, monkeypatch):
    queries, vectors = factors()
    rng = np.random.default_rng(1)
    closed = closed_of([rng.choice(5000, 50, replace=False) for _ in range(300)])
    scores = (queries @ vectors.T).numpy()
    items, _ = brute_force(scores, k, closed, np.ones(5000, dtype=bool))
    index = FactorIndex(vectors)
    found = index.search(queries, k, closed=closed)
    assert np.array_equal(found.items, items)
    monkeypatch.setattr(tiles_module, "TILE_USERS", 7)
    monkeypatch.setattr(tiles_module, "_ROWS", 3)
    for threads in (1, 2, 3):
        again = index.search(queries, k, closed=closed, threads=threads)
        assert np.array_equal(again.items, found.items)
        assert np.array_equal(again.scores, found.scores)


@pytest.mark.parametrize("typical_norm", [1e-6, 1.0, 1e6])
def test_what_queries_are_prepared_for_changes_nothing(typical_norm):
    queries, vectors = factors(n_users=40)
    appeal = torch.linspace(-3.0, 3.0, 5000, dtype=torch.float64).flip(0)
    expected = FactorIndex(vectors, appeal).search(queries, 20)
    found = FactorIndex(vectors, appeal, typical_norm=typical_norm).search(queries, 20)
    assert np.array_equal(found.items, expected.items)
    assert np.array_equal(found.scores, expected.scores)


def test_both_ways_give_the_same_bits(monkeypatch):
    queries, vectors = factors(dim=64)
    by_integers = FactorIndex(vectors).search(queries, 50)
    monkeypatch.setattr(index_module, "integers_are_exact", lambda: False)
    by_products = FactorIndex(vectors).search(queries, 50)
    assert np.array_equal(by_integers.items, by_products.items)
    assert np.array_equal(by_integers.scores, by_products.scores)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_a_gpu_gives_the_same_bits():
    queries, vectors = factors(dim=64)
    closed = closed_of([[row, row + 1] for row in range(300)])
    on_cpu = FactorIndex(vectors).search(queries, 50, closed=closed)
    on_gpu = FactorIndex(vectors.cuda()).search(queries, 50, closed=closed)
    assert np.array_equal(on_cpu.items, on_gpu.items)
    assert np.array_equal(on_cpu.scores, on_gpu.scores)


def test_thousands_of_equal_items_are_searched_to_the_end():
    vectors = torch.ones(5000, 8)
    closed = closed_of([[0, 1], []])
    found = FactorIndex(vectors).search(torch.ones(2, 8), 3, closed=closed)
    assert found.items.tolist() == [[2, 3, 4], [0, 1, 2]]


def test_nothing_open_and_nobody_asking():
    vectors = torch.ones(4, 2)
    closed = FactorIndex(vectors, open_items=np.zeros(4, dtype=bool))
    assert closed.search(torch.ones(2, 2), 3).items.tolist() == [[-1] * 3] * 2
    assert FactorIndex(vectors).search(torch.ones(0, 2), 3).items.shape == (0, 3)
    everything = closed_of([[0, 1, 2, 3]])
    found = FactorIndex(vectors).search(torch.ones(1, 2), 3, closed=everything)
    assert found.items.tolist() == [[-1] * 3]
    assert np.isneginf(found.scores).all()


def test_without_dimensions_the_appeal_decides():
    appeal = torch.tensor([0.0, 2.0, 1.0])
    found = FactorIndex(torch.zeros(3, 0), appeal).search(torch.zeros(2, 0), 2)
    assert found.items.tolist() == [[1, 2], [1, 2]]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(bad):
    vectors = torch.ones(5, 3)
    with pytest.raises(ModelError, match=r"1 item\(s\) that are NaN or infinite.*index 2"):
        broken = vectors.clone()
        broken[2, 1] = bad
        FactorIndex(broken)
    with pytest.raises(ModelError, match="NaN or infinite"):
        FactorIndex(vectors, torch.tensor([0.0, 0.0, 0.0, 0.0, bad]))
    with pytest.raises(ModelError, match=r"queries of 1 user\(s\), the first in row 1"):
        FactorIndex(vectors).search(torch.tensor([[1.0, 1.0, 1.0], [1.0, bad, 1.0]]), 2)


def test_parts_that_do_not_belong_together_are_refused():
    vectors = torch.ones(5, 3)
    with pytest.raises(ModelError, match="appeal of shape"):
        FactorIndex(vectors, torch.zeros(4))
    with pytest.raises(ModelError, match="a mask of shape"):
        FactorIndex(vectors, open_items=np.ones(4, dtype=bool))
    index = FactorIndex(vectors)
    with pytest.raises(ModelError, match="queries of shape"):
        index.search(torch.ones(1, 2), 1)
    with pytest.raises(ModelError, match="closed items of 2 users for 1 queries"):
        index.search(torch.ones(1, 3), 1, closed=closed_of([[], []]))
    with pytest.raises(ModelError, match="closed items from 7 to 7 in a catalogue of 5"):
        index.search(torch.ones(1, 3), 1, closed=closed_of([[7]]))
    with pytest.raises(ConfigError, match="parameter k"):
        index.search(torch.ones(1, 3), 0)
    for step in (float("nan"), float("inf"), 1e-310):
        with pytest.raises(ConfigError, match="parameter step"):
            index.search(torch.ones(1, 3), 1, step=step)
