"""Judged reasons against a loop over users, for a model whose reasons are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from metarec_core.episodes.types import InteractionMatrix, Support
from metarec_core.evaluation.explanations import (
    CURVES_SCHEMA,
    METRICS_SCHEMA,
    ExplanationConfig,
    judge_reasons,
    stability,
)
from metarec_core.learners.base import Shares
from metarec_core.ranking.request import Audience

N_USERS, N_ITEMS = 40, 25


class Additive:
    """``score(i) = appeal_i + sum_s value_s W[s, i]``; reasons may be told wrongly."""

    name = "additive"

    def __init__(self, *, honest: bool = True, gap: float = 0.0) -> None:
        rng = np.random.default_rng(1)
        self.weights = torch.from_numpy(rng.normal(size=(N_ITEMS, N_ITEMS)))
        self.appeal = torch.from_numpy(rng.normal(size=N_ITEMS))
        self.honest, self.gap = honest, gap

    def adapt(self, support: Support) -> AdditivePredictor:
        return AdditivePredictor(self, support)


class AdditivePredictor:
    def __init__(self, learner: Additive, support: Support) -> None:
        self.learner = learner
        votes = (support.values * support.mask).double()
        self.by_support = votes.unsqueeze(-1) * learner.weights[support.items]

    def scores(self, items: Tensor | None = None) -> Tensor:
        scores = self.learner.appeal + self.by_support.sum(dim=1)
        return scores if items is None else scores.gather(1, items)

    def shares(self, items: Tensor) -> Shares:
        by_item = self.by_support.gather(2, items.unsqueeze(1).expand(-1, self.width, -1)).mT
        by_item = by_item if self.learner.honest else -by_item
        zero = torch.zeros(items.shape, dtype=torch.float64)
        item = self.scores(items) - by_item.sum(dim=2) + self.learner.gap
        return Shares(item, zero, by_item)

    def mean_var(self, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.scores(items), torch.ones_like(self.scores(items))

    @property
    def width(self) -> int:
        return self.by_support.shape[1]


@pytest.fixture(scope="module")
def audience() -> Audience:
    rng = np.random.default_rng(2)
    counts = rng.integers(0, 9, size=N_USERS)
    items = np.concatenate([np.sort(rng.choice(N_ITEMS, n, replace=False)) for n in counts])
    values = rng.integers(1, 6, size=len(items)).astype(np.float32)
    return Audience(
        pl.Series("user_id", [f"{user}" for user in range(N_USERS)]),
        InteractionMatrix(np.concatenate([[0], np.cumsum(counts)]), items.astype(np.int64), values),
        np.zeros((N_USERS, 0), dtype=np.float32),
    )


def figures(report) -> dict[str, float]:
    return dict(report.metrics.rows())


def brute_force(learner: Additive, audience: Audience, config: ExplanationConfig) -> dict:
    """Everyone, one at a time, in NumPy."""
    steps = [0.0, *config.steps, 1.0]
    weights, appeal = learner.weights.numpy(), learner.appeal.numpy()
    lost, left, mass = [], [], []
    curves: dict[str, list[list[float]]] = {"deletion": [], "insertion": []}
    matrix = audience.histories
    for user in range(N_USERS):
        own = slice(matrix.indptr[user], matrix.indptr[user + 1])
        history, values = matrix.items[own], matrix.values[own].astype(float)
        if not len(history):
            continue
        votes = values[:, None] * weights[history]

        def place(kept: np.ndarray, item: int, votes=votes, history=history) -> int:
            scores = np.round((appeal + votes[kept].sum(axis=0)) * 2**20)
            rivals = [one for one in range(N_ITEMS) if one not in history]
            return sorted(rivals, key=lambda one: (-scores[one], one)).index(item) + 1

        everything = np.arange(len(history))
        best = sorted(
            (one for one in range(N_ITEMS) if one not in history),
            key=lambda one: -(appeal + votes.sum(axis=0))[one],
        )[: config.entries]
        for at, item in enumerate(best, start=1):
            effect = votes[:, item]
            after = place(np.delete(everything, effect.argmax()), item)
            lost.append(after - at)
            left.append(after > config.entries)
            if len(history) > 3:
                strength = np.sort(np.abs(effect))[::-1]
                mass.append(strength[:3].sum() / strength.sum())
        order = np.argsort(-votes[:, best[0]], kind="stable")
        for name in curves:
            cut = [int(np.ceil(len(history) * step)) for step in steps]
            parts = [order[n:] if name == "deletion" else order[:n] for n in cut]
            curves[name].append([1 / np.log2(1 + place(part, best[0])) for part in parts])
    return {
        "places_lost": np.mean(lost),
        "left_the_list": np.mean(left),
        "mass_in_top_3": np.mean(mass),
        "deletion": np.mean(curves["deletion"], axis=0),
        "insertion": np.mean(curves["insertion"], axis=0),
    }


CONFIG = ExplanationConfig(users=1000, entries=2, steps=(0.2, 0.5))


def test_figures_are_those_of_a_loop_over_users(audience: Audience) -> None:
    learner = Additive()
    report = judge_reasons(learner, audience, N_ITEMS, CONFIG, seed=3)
    expected = brute_force(learner, audience, CONFIG)
    got = figures(report)

    assert report.metrics.schema == METRICS_SCHEMA
    assert report.curves.schema == CURVES_SCHEMA
    assert got["users"] == (audience.histories.counts() > 0).sum()
    assert got["completeness"] < 1e-9
    for name in ("places_lost", "left_the_list", "mass_in_top_3"):
        assert got[name] == pytest.approx(expected[name])
    for name in ("deletion", "insertion"):
        curve = report.curves.filter(pl.col("curve") == name)
        assert curve["removed"].to_list() == [0.0, 0.2, 0.5, 1.0]
        assert curve["value"].to_list() == pytest.approx(expected[name].tolist())
        area = np.trapezoid(expected[name], [0.0, 0.2, 0.5, 1.0])
        assert got[f"{name}_auc"] == pytest.approx(area)


def test_true_reasons_beat_chance_and_false_ones_lose_to_it(audience: Audience) -> None:
    true = figures(judge_reasons(Additive(), audience, N_ITEMS, CONFIG, seed=3))
    false = figures(judge_reasons(Additive(honest=False), audience, N_ITEMS, CONFIG, seed=3))
    assert true["deletion_auc"] < true["deletion_at_random_auc"] < false["deletion_auc"]
    assert true["insertion_auc"] > true["insertion_at_random_auc"] > false["insertion_auc"]
    assert true["places_lost"] > 2.0 * false["places_lost"]
    assert true["left_the_list"] > 2.0 * false["left_the_list"]


def test_shares_that_do_not_add_up_are_found(audience: Audience) -> None:
    report = judge_reasons(Additive(gap=0.01), audience, N_ITEMS, CONFIG, seed=3)
    assert figures(report)["completeness"] == pytest.approx(0.01)


def test_the_seed_decides(audience: Audience) -> None:
    config = replace_users(CONFIG, 7)
    first = judge_reasons(Additive(), audience, N_ITEMS, config, seed=3)
    again = judge_reasons(Additive(), audience, N_ITEMS, config, seed=3)
    other = judge_reasons(Additive(), audience, N_ITEMS, config, seed=4)
    assert first.metrics.equals(again.metrics)
    assert first.curves.equals(again.curves)
    assert not first.metrics.equals(other.metrics)
    assert figures(first)["users"] == 7


def replace_users(config: ExplanationConfig, users: int) -> ExplanationConfig:
    return config.model_copy(update={"users": users})


def test_nobody_is_judged_where_nobody_is_known(audience: Audience) -> None:
    nobody = replace(
        audience,
        histories=InteractionMatrix(
            np.zeros(N_USERS + 1, dtype=np.int64),
            np.zeros(0, dtype=np.int64),
            np.zeros(0, dtype=np.float32),
        ),
    )
    for case, config in ((nobody, CONFIG), (audience, replace_users(CONFIG, 0))):
        report = judge_reasons(Additive(), case, N_ITEMS, config, seed=3)
        assert figures(report)["users"] == 0
        assert report.metrics["value"].null_count() == len(report.metrics) - 1
        assert report.curves.is_empty()


def lists(*entries: tuple[str, str, dict[str, float]]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user_id": [user for user, _, _ in entries],
            "item_id": [item for _, item, _ in entries],
            "reasons": [
                [
                    {"kind": "item", "item_id": None, "share": 9.0},
                    *({"kind": "support", "item_id": i, "share": s} for i, s in named.items()),
                ]
                for _, _, named in entries
            ],
        }
    )


def test_stability_compares_what_both_nights_named() -> None:
    now = lists(
        ("u", "x", {"a": 3.0, "b": 2.0, "c": 1.0}),
        ("u", "y", {"a": 1.0}),
        ("v", "x", {"d": 1.0}),
        ("v", "z", {"d": 1.0, "e": -1.0}),
    )
    before = lists(
        ("u", "x", {"a": 1.0, "b": 2.0, "d": 5.0}),
        ("u", "y", {"a": 7.0}),
        ("v", "z", {"d": 2.0, "e": -9.0}),
        ("w", "x", {"a": 1.0}),
    )
    got = dict(stability(now, before).rows())
    assert got["entries_in_both"] == 0.75
    assert got["reasons_overlap"] == pytest.approx((2 / 4 + 1 + 1) / 3)
    # x: the order of a and b turned round; z: the same order.
    assert got["reasons_correlation"] == pytest.approx((-1.0 + 1.0) / 2)


def test_nights_with_nothing_in_common_have_no_stability() -> None:
    got = dict(stability(lists(("u", "x", {"a": 1.0})), lists(("u", "y", {"a": 1.0}))).rows())
    assert got == {"entries_in_both": 0.0, "reasons_overlap": None, "reasons_correlation": None}


def test_who_is_new_tonight_had_no_list_that_could_change() -> None:
    before = lists(("u", "x", {}), ("u", "y", {}))
    now = lists(("u", "x", {}), ("u", "z", {}), ("new", "x", {}), ("new", "y", {}))
    assert dict(stability(now, before).rows())["entries_in_both"] == 0.5
    nobody = dict(stability(now.filter(user_id="new"), before).rows())
    assert nobody["entries_in_both"] is None
