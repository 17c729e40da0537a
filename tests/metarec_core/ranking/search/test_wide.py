"""Sizes near the ends of float32, and of float64, against float64 scores of all items."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metarec_core.errors import ModelError
from metarec_core.ranking.search import Closed, FactorIndex
from metarec_core.ranking.search import index as index_module
from metarec_core.ranking.search import wide as wide_module
from metarec_core.ranking.search.candidates import kth_largest
from metarec_core.ranking.search.scores import exact_scores, padded

# A compiled loop that does not end hears no signal: a thread has to end the run.
pytestmark = pytest.mark.timeout(120, method="thread")

N_USERS, N_ITEMS, DIM = 40, 3000, 16


@pytest.fixture(params=["tiled", "dense"])
def way(request, monkeypatch):
    """Both ways of a search."""
    if request.param == "dense":
        monkeypatch.setattr(index_module, "integers_are_exact", lambda: False)
    return request.param


def drawn(seed=0, n_users=N_USERS, n_items=N_ITEMS):
    rng = np.random.default_rng(seed)
    queries = torch.from_numpy(rng.standard_normal((n_users, DIM)))
    return queries, torch.from_numpy(rng.standard_normal((n_items, DIM)))


def brute_force(queries, vectors, appeal, k, closed=None):
    every = torch.arange(len(vectors)).expand(len(queries), -1)
    wide = padded(queries.double()), padded(vectors)
    scores = exact_scores(*wide, appeal, every).numpy()
    if closed is not None:
        for row in range(len(queries)):
            scores[row, closed.of(row)] = -np.inf
    items = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return items, np.take_along_axis(scores, items, axis=1)


def check(queries, vectors, appeal=None, *, k=5, closed=None, **prepared):
    given = torch.zeros(len(vectors), dtype=torch.float64) if appeal is None else appeal
    index = FactorIndex(vectors, appeal, **prepared)
    found = index.search(queries, k, closed=closed, threads=2)
    items, scores = brute_force(queries, vectors, given, k, closed)
    assert np.array_equal(found.items, items)
    assert np.array_equal(found.scores, scores)


SIZES = [1e-30, 1e-21, 1e-15, 1.0, 1e10, 1e17, 1e18, 1e19, 1e20, 1e30]


@pytest.mark.parametrize("of_items", SIZES)
@pytest.mark.parametrize("of_queries", SIZES)
def test_any_size_of_queries_and_items(way, of_queries, of_items):
    queries, vectors = drawn()
    check(queries * of_queries, (vectors * of_items).float())


@pytest.mark.parametrize(
    ("of_queries", "of_items"),
    [
        (1e-46, 1e3),
        (1e-45, 1e36),
        (1e36, 1e-45),
        (1e-40, 1.0),
        (1.0, 1e-40),
        (1e40, 1e-40),
        (1e-100, 1e100),
        (1.0, 1e40),
        (1e39, 1.0),
        (1e100, 1e200),
        (1e-200, 1e-200),
    ],
)
def test_sizes_that_only_float64_holds(way, of_queries, of_items):
    queries, vectors = drawn()
    queries = queries * of_queries
    check(queries, vectors * of_items, typical_norm=float(queries.norm(dim=1).median()))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    of_queries=st.floats(-44.0, 44.0),
    of_items=st.floats(-44.0, 44.0),
    of_appeal=st.one_of(st.none(), st.floats(-44.0, 44.0)),
    spread=st.sampled_from([0.0, 10.0]),
    exact=st.booleans(),
)
def test_any_mix_of_sizes(seed, of_queries, of_items, of_appeal, spread, exact):
    rng = np.random.default_rng(seed)
    queries, vectors = drawn(seed, n_users=8, n_items=700)
    queries *= 10.0 ** torch.from_numpy(of_queries + spread * rng.standard_normal((8, 1)))
    vectors *= 10.0 ** torch.from_numpy(of_items + spread * rng.standard_normal((700, 1)))
    appeal = torch.zeros(700, dtype=torch.float64)
    if of_appeal is not None:
        appeal = torch.from_numpy(rng.standard_normal(700)) * 10.0**of_appeal
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "integers_are_exact", lambda: exact)
        check(queries, vectors, appeal, k=20)


@pytest.mark.parametrize("of_appeal", [1e-40, 1e6, 1e36, 1e39, 1e300])
def test_huge_and_tiny_appeals(way, of_appeal):
    queries, vectors = drawn()
    appeal = torch.linspace(-1.0, 1.0, N_ITEMS, dtype=torch.float64) * of_appeal
    check(queries, vectors.float(), appeal)


def test_one_huge_item_among_ordinary_ones(way):
    queries, vectors = drawn()
    for size in (1e20, 1e36, 1e37, 1e60):
        vectors[7] *= size / vectors[7].norm()
        check(queries, vectors)
    appeal = torch.zeros(N_ITEMS, dtype=torch.float64)
    appeal[9] = -1e38
    check(queries, drawn()[1], appeal)


def test_items_are_told_apart_below_a_few_that_are_not_tiny(way):
    queries, vectors = drawn(n_users=200)
    vectors[3:] *= 1e-40
    check(queries, vectors)


def test_one_huge_query_does_not_slow_the_others(way, monkeypatch):
    asked = []
    search = wide_module.WideSearch.search

    def counted(self, queries, *rest):
        asked.append(len(queries))
        return search(self, queries, *rest)

    monkeypatch.setattr(wide_module.WideSearch, "search", counted)
    queries, vectors = drawn()
    check(queries, vectors)
    assert asked == []
    queries[5] *= 1e38
    queries[30] *= 1e120
    rows = np.arange(N_USERS)
    # Each has a closed item of his own.
    closed = Closed(np.arange(N_USERS + 1), rows + 3)
    check(queries, vectors, closed=closed)
    assert asked == [2]


def test_what_nobody_may_be_given_has_any_size(way):
    queries, vectors = drawn()
    vectors[11] = 1e200
    open_items = np.ones(N_ITEMS, dtype=bool)
    open_items[11] = False
    closed = Closed(np.arange(N_USERS + 1), np.full(N_USERS, 11))
    found = FactorIndex(vectors, open_items=open_items).search(queries, 5)
    items, scores = brute_force(queries, vectors, torch.zeros(N_ITEMS), 5, closed)
    assert np.array_equal(found.items, items)
    assert np.array_equal(found.scores, scores)


def test_more_users_than_a_thread_takes_at_once(monkeypatch):
    monkeypatch.setattr(wide_module, "_ROWS", 7)
    queries, vectors = drawn()
    check(queries * 1e20, vectors * 1e20)


def test_fewer_open_items_than_wanted_at_any_size():
    queries = torch.full((1, 3), 1e30, dtype=torch.float64)
    vectors = torch.tensor([[1e30] * 3, [1e29] * 3, [-1e30] * 3])
    closed = Closed(np.array([0, 1]), np.array([0]))
    found = FactorIndex(vectors).search(queries, 5, closed=closed)
    assert found.items.tolist() == [[1, 2, -1, -1, -1]]
    assert np.isneginf(found.scores[0, 2:]).all()


def test_scores_that_float64_does_not_hold_are_refused(way):
    queries, vectors = drawn()
    with pytest.raises(ModelError, match=r"scores of 40 user\(s\) that are NaN or infinite"):
        FactorIndex(vectors * 1e160).search(queries * 1e160, 5)
    queries[4] *= 1e300
    vectors[8] *= 1e150
    with pytest.raises(ModelError, match=r"scores of 1 user\(s\).*train the learner again"):
        FactorIndex(vectors).search(queries, 5)
    # To whom the item is closed, it does not matter.
    closed = Closed((np.arange(N_USERS + 1) > 4).astype(np.int64), np.array([8]))
    check(queries, vectors, closed=closed)


@pytest.mark.parametrize("nan_at", [[0], [1, 5], list(range(9))])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_kth_largest_ends_on_nan(dtype, nan_at):
    values = np.arange(9.0).astype(dtype)
    values[nan_at] = np.nan
    for k in range(1, 10):
        kth_largest(values, 9, k, np.empty(9, dtype=dtype))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("of_queries", [1e-40, *SIZES])
def test_a_gpu_gives_the_same_bits_at_any_size(of_queries):
    queries, vectors = drawn()
    queries *= of_queries
    for of_items in (1e-40, *SIZES):
        items = (vectors * of_items).float()
        on_cpu = FactorIndex(items).search(queries, 20)
        on_gpu = FactorIndex(items.cuda()).search(queries.cuda(), 20)
        assert np.array_equal(on_cpu.items, on_gpu.items)
        assert np.array_equal(on_cpu.scores, on_gpu.scores)
