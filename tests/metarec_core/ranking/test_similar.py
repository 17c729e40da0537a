"""Nearest neighbours against all pairs, and an index whose recall is measured."""

import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metarec_core.ranking import similar
from metarec_core.ranking.grid import on_grid
from metarec_core.ranking.similar import SimilarConfig, nearest, nearest_streamed


def vectors(n: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(queries: Tensor, table: Tensor, k: int, own: list[int]) -> list[list[int]]:
    found = []
    for query, self_row in zip(queries.tolist(), own, strict=True):
        cosines = []
        for row in table.tolist():
            norms = np.linalg.norm(query) * np.linalg.norm(row)
            cosines.append(float(on_grid(np.dot(query, row) / max(norms, 1e-12))))
        rows = [row for row in range(len(table)) if row != self_row]
        best = sorted(rows, key=lambda row: (-cosines[row], row))[:k]
        found.append(best + [-1] * (k - len(best)))
    return found


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 3), st.integers(1, 15), st.integers(0, 2**31))
def test_neighbours_are_those_of_all_pairs(n: int, dim: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Few different values, so that cosines tie; some vectors are zero.
    table = torch.from_numpy(rng.integers(-1, 2, size=(n, dim)).astype(float))
    asked = rng.permutation(n)[: max(1, n // 2)]
    found = nearest(table[asked], table, k, own=torch.from_numpy(asked))

    assert found.indices.tolist() == by_hand(table[asked], table, k, asked.tolist())
    assert found.recall is None
    assert bool((found.similarity.isnan() == (found.indices < 0)).all())


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 3), st.integers(1, 15), st.integers(0, 2**31))
def test_vectors_may_come_some_at_a_time(n: int, dim: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = torch.from_numpy(rng.integers(-1, 2, size=(n, dim)).astype(float))
    asked = torch.from_numpy(rng.permutation(n)[: max(1, n // 2)])
    cuts = np.sort(rng.integers(0, n + 1, size=2))
    parts = [torch.from_numpy(np.sort(part)) for part in np.split(rng.permutation(n), cuts)]
    found = nearest_streamed(table[asked], ((part, table[part]) for part in parts), k, own=asked)
    whole = nearest(table[asked], table, k, own=asked)
    assert torch.equal(found.indices, whole.indices)
    assert torch.equal(found.similarity.nan_to_num(-9.0), whole.similarity.nan_to_num(-9.0))


def test_tiles_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    table = vectors(50, 4)
    whole = nearest(table, table, 5)
    monkeypatch.setattr(similar, "_SIMILARITIES", 120)
    parts = nearest(table, table, 5)
    assert torch.equal(whole.indices, parts.indices)
    assert torch.equal(whole.similarity, parts.similarity)
    assert whole.indices[:, 0].tolist() == list(range(50))


def test_an_index_answers_nearly_as_well_and_says_how_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    table = vectors(3000, 8)
    asked = torch.arange(0, 3000, 3)
    config = SimilarConfig(index="usearch", index_above=100, recall_sample=50)
    with caplog.at_level(logging.INFO):
        found = nearest(table[asked], table, 10, own=asked, config=config)
    exact = nearest(table[asked], table, 10, own=asked)

    assert found.recall is not None
    assert found.recall > 0.9
    assert "recall@10" in caplog.text
    hits = (exact.indices.unsqueeze(2) == found.indices.unsqueeze(1)).any(dim=2)
    assert float(hits.double().mean()) > 0.9
    assert not (found.indices == asked[:, None]).any()
    same = found.indices[:, 0] == exact.indices[:, 0]
    assert torch.equal(found.similarity[same, 0], exact.similarity[same, 0])
    assert (found.similarity.diff(dim=1) <= 0).all()


def test_small_tables_are_compared_exactly_whatever_is_asked() -> None:
    table = vectors(40, 4)
    found = nearest(table, table, 3, config=SimilarConfig(index="usearch", index_above=41))
    assert found.recall is None
    assert torch.equal(found.indices, nearest(table, table, 3).indices)


def test_without_the_library_all_are_compared(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("metarec_core.ranking.neighbour_index._LIBRARY", "no_such_library")
    table = vectors(40, 4)
    found = nearest(table, table, 3, config=SimilarConfig(index="usearch", index_above=10))
    assert torch.equal(found.indices, nearest(table, table, 3).indices)
    assert "metarec[usearch]" in caplog.text
