"""Metrics against hand-computed figures and their invariants."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metarec_core.evaluation import metrics

YES = torch.tensor([[True, True, True]])


def test_ndcg_by_hand() -> None:
    ranked = torch.tensor([[False, True, True, False]])
    gained = 1 / math.log2(3) + 1 / math.log2(4)
    best = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert metrics.ndcg(ranked, torch.tensor([3]), 4).item() == pytest.approx(gained / best)
    # Only the first two places count, and the ideal is cut there too.
    assert metrics.ndcg(ranked, torch.tensor([3]), 2).item() == pytest.approx(
        (1 / math.log2(3)) / (1 + 1 / math.log2(3))
    )


def test_no_target_is_unknown_not_zero() -> None:
    ranked = torch.zeros(2, 3, dtype=torch.bool)
    n_targets = torch.tensor([0, 1])
    assert metrics.ndcg(ranked, n_targets, 10).isnan().tolist() == [True, False]
    assert metrics.recall(ranked, n_targets, 10).isnan().tolist() == [True, False]


def test_recall_divides_by_all_targets() -> None:
    ranked = torch.tensor([[True, True, False]])
    assert metrics.recall(ranked, torch.tensor([4]), 3).item() == 0.5
    assert metrics.recall(ranked, torch.tensor([4]), 1).item() == 0.25


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_ranking_invariants(data: st.DataObject) -> None:
    n_items = data.draw(st.integers(2, 40))
    n_targets = data.draw(st.integers(1, n_items))
    k = data.draw(st.integers(1, 50))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    targets = torch.from_numpy(rng.permutation(n_items)[:n_targets])[None]
    mask = torch.ones_like(targets, dtype=torch.bool)
    nothing = torch.zeros(1, n_items, dtype=torch.bool)
    scores = torch.from_numpy(rng.normal(size=(1, n_items)).astype(np.float32))

    def figures(scores: torch.Tensor, targets: torch.Tensor) -> tuple[float, float]:
        ranked = metrics.hits(metrics.top_items(scores, nothing, k), targets, mask)
        count = torch.tensor([n_targets])
        return metrics.ndcg(ranked, count, k).item(), metrics.recall(ranked, count, k).item()

    ndcg, recall = figures(scores, targets)
    assert 0.0 <= ndcg <= 1.0
    assert 0.0 <= recall <= 1.0
    perfect = torch.zeros(1, n_items)
    perfect[0, targets[0]] = 1.0
    assert figures(perfect, targets)[0] == pytest.approx(1.0)
    assert figures(perfect, targets)[1] == pytest.approx(min(k, n_targets) / n_targets)
    # Renaming the items changes nothing.
    order = torch.from_numpy(rng.permutation(n_items))
    renamed = torch.empty_like(scores)
    renamed[0, order] = scores[0]
    assert figures(renamed, order[targets]) == pytest.approx((ndcg, recall))


def test_top_items_excludes_and_breaks_ties_by_index() -> None:
    scores = torch.tensor([[0.0, -0.0, 2.0, -1.0, 2.0, -3.0], [1.0] * 6])
    excluded = torch.zeros(2, 6, dtype=torch.bool)
    excluded[0, 2] = excluded[1, 0] = excluded[1, 5] = True
    top = metrics.top_items(scores, excluded, 5)
    assert top.tolist() == [[4, 0, 1, 3, 5], [1, 2, 3, 4, 0]]
    assert scores[0, 2] == 2.0, "the learner's scores were written to"
    assert metrics.top_items(scores, excluded, 50).shape == (2, 6)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_top_items_is_a_stable_sort(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(rng.integers(-3, 4, size=(3, 30)).astype(np.float32) / 7)
    nothing = torch.zeros(3, 30, dtype=torch.bool)
    wanted = scores.sort(dim=1, descending=True, stable=True).indices[:, :k]
    assert torch.equal(metrics.top_items(scores, nothing, k), wanted)


def test_errors_by_hand() -> None:
    mean, target = torch.tensor([[3.0, 4.5, 9.0]]), torch.tensor([[4.0, 4.0, 0.0]])
    mask = torch.tensor([[True, True, False]])
    assert metrics.absolute_error(mean, target, mask).item() == pytest.approx(0.75)
    assert metrics.root_squared_error(mean, target, mask).item() == pytest.approx(
        math.sqrt((1 + 0.25) / 2)
    )


def test_one_unpredicted_value_leaves_the_task_without_errors() -> None:
    target, variance = torch.ones(2, 2), torch.ones(2, 2)
    mean = torch.tensor([[torch.nan, 1.0], [1.0, torch.nan]])
    mask = torch.tensor([[True, True], [True, False]])
    for figure in (
        metrics.absolute_error(mean, target, mask),
        metrics.root_squared_error(mean, target, mask),
        metrics.gaussian_nll(mean, variance, target, mask),
        metrics.interval_coverage(mean, variance, target, mask, 0.5),
    ):
        assert figure.isnan().tolist() == [True, False]


def test_an_empty_query_is_unknown() -> None:
    empty = torch.zeros(1, 2)
    mask = torch.zeros(1, 2, dtype=torch.bool)
    assert metrics.absolute_error(empty, empty, mask).isnan().all()
    assert metrics.interval_coverage(empty, empty, empty, mask, 0.9).isnan().all()


def test_nll_is_the_normal_density() -> None:
    mean, variance, target = torch.zeros(1, 3), torch.full((1, 3), 4.0), torch.tensor([[0, 1, 2.0]])
    density = torch.distributions.Normal(0.0, 2.0).log_prob(target)
    assert metrics.gaussian_nll(mean, variance, target, YES).item() == pytest.approx(
        -density.mean().item(), rel=1e-6
    )
    certain = metrics.gaussian_nll(mean, torch.zeros(1, 3), target, YES)
    assert certain.isfinite().all()


def test_coverage_of_a_calibrated_forecast() -> None:
    rng = np.random.default_rng(0)
    sd = torch.from_numpy(rng.uniform(0.5, 2.0, size=(1, 20_000)))
    target = torch.from_numpy(rng.normal(size=(1, 20_000))) * sd
    mask = torch.ones_like(target, dtype=torch.bool)
    for level in (0.5, 0.9):
        covered = metrics.interval_coverage(torch.zeros_like(sd), sd**2, target, mask, level)
        assert covered.item() == pytest.approx(level, abs=0.01)


def test_catalogue_coverage_counts_each_item_once() -> None:
    frame = pl.DataFrame({"g": ["a", "a", "b"], "top": [[0, 1], [1, 2], [4]], "size": [10, 10, 10]})
    shown = frame.group_by("g", maintain_order=True).agg(
        metrics.catalogue_coverage(pl.col("top"), pl.col("size")).alias("share")
    )
    assert shown["share"].to_list() == [0.3, 0.1]
