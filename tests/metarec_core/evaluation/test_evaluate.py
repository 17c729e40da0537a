"""Evaluation of real learners on sampled tasks, against a slow and plain computation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from metarec_core.episodes.sampling import EvaluationTasks, evaluation_episodes
from metarec_core.episodes.types import Support, TaskData
from metarec_core.errors import ModelError
from metarec_core.evaluation import METRICS, TASK_SCHEMA, evaluate, summarise
from metarec_core.evaluation.metrics import calibration_error
from metarec_core.learners.base import FitContext
from metarec_core.learners.bias import Bias, BiasConfig
from metarec_core.learners.popularity import Popularity, PopularityConfig

CPU = torch.device("cpu")
TRAIN, TEST = np.arange(25), np.arange(25, 40)


@pytest.fixture(scope="module")
def tasks(task_data: TaskData) -> EvaluationTasks:
    return evaluation_episodes(task_data, TEST, support_sizes=(0, 2, 5), max_query=8, seed=11)


@pytest.fixture(scope="module")
def bias(task_data: TaskData) -> Bias:
    learner = Bias(BiasConfig())
    train = task_data.select(TRAIN)
    learner.fit(train, train, FitContext(seed=0, device=CPU))
    return learner


@pytest.fixture(scope="module")
def popularity(task_data: TaskData) -> Popularity:
    learner = Popularity(PopularityConfig())
    train = task_data.select(TRAIN)
    learner.fit(train, train, FitContext(seed=0, device=CPU))
    return learner


class Constant:
    """Scores every item alike and forecasts 3 with variance 1; or NaN scores."""

    name = "constant"

    def __init__(self, n_items: int, score: float = 0.0) -> None:
        self._row = torch.full((n_items,), score)

    def adapt(self, support: Support) -> Constant:
        self._users = len(support.items)
        return self

    def scores(self, items: Tensor | None = None) -> Tensor:
        return self._row.expand(self._users, -1)

    def mean_var(self, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        assert items is not None
        return torch.full(items.shape, 3.0), torch.ones(items.shape)


def test_every_figure_against_a_loop(
    task_data: TaskData, tasks: EvaluationTasks, bias: Bias
) -> None:
    frame = evaluate(bias, tasks, device=CPU, batch_size=4)
    assert frame.schema == TASK_SCHEMA
    assert len(frame) == len(tasks)
    found = {(row["user"], row["support_size"]): row for row in frame.iter_rows(named=True)}
    for batch in tasks.batches(1):
        episode = batch.episode
        row = found[int(batch.users[0]), int(batch.support_size[0])]
        support = set(episode.support.items[episode.support.mask].tolist())
        query = episode.items[episode.mask].tolist()
        values = episode.values[episode.mask].double().numpy()
        predictor = bias.adapt(episode.support)
        scores = predictor.scores()[0].tolist()
        mean, variance = (
            part[episode.mask].double().numpy() for part in predictor.mean_var(episode.items)
        )
        ranking = sorted(set(range(60)) - support, key=lambda item: (-scores[item], item))
        targets = {item for item, value in zip(query, values, strict=True) if value >= 4}
        assert row["top_10"] == ranking[:10]
        assert row["n_query"] == len(query)
        assert row["n_relevant"] == len(targets)
        assert row["mae"] == pytest.approx(np.abs(mean - values).mean())
        assert row["rmse"] == pytest.approx(np.sqrt(((mean - values) ** 2).mean()))
        inside = np.abs(mean - values) <= 1.6448536 * np.sqrt(variance)
        assert row["coverage_90"] == pytest.approx(inside.mean())
        if not targets:
            assert row["ndcg_at_10"] is None
            assert row["recall_at_20"] is None
            continue
        gained = sum(1 / np.log2(2 + r) for r, item in enumerate(ranking[:10]) if item in targets)
        best = sum(1 / np.log2(2 + r) for r in range(min(10, len(targets))))
        assert row["ndcg_at_10"] == pytest.approx(gained / best)
        assert row["recall_at_20"] == pytest.approx(len(targets & set(ranking[:20])) / len(targets))


def test_batches_change_nothing(task_data: TaskData, tasks: EvaluationTasks, bias: Bias) -> None:
    frames = [evaluate(bias, tasks, device=CPU, batch_size=size) for size in (1, 7, 512)]
    assert frames[0].equals(frames[1])
    assert frames[0].equals(frames[2])
    assert frames[0].equals(frames[0].sort("support_size", "user"))


def test_a_learner_without_forecasts_has_no_errors(
    task_data: TaskData, tasks: EvaluationTasks, popularity: Popularity
) -> None:
    frame = evaluate(popularity, tasks, device=CPU, name="counts")
    assert (
        frame.select("mae", "rmse", "nll", "coverage_50", "coverage_90").null_count().row(0)
        == (len(frame),) * 5
    )
    assert frame["ndcg_at_10"].drop_nulls().is_between(0, 1).all()
    assert frame["learner"].unique().to_list() == ["counts"]


def test_relevance_comes_from_the_scale(task_data: TaskData, popularity: Popularity) -> None:
    strict = replace(task_data, scale=replace(task_data.scale, relevant_from=6.0))
    asked = evaluation_episodes(strict, TEST, support_sizes=(0, 2, 5), max_query=8, seed=11)
    frame = evaluate(popularity, asked, device=CPU)
    assert frame["n_relevant"].sum() == 0
    assert frame["ndcg_at_10"].null_count() == len(frame)


def test_nan_scores_are_refused(task_data: TaskData, tasks: EvaluationTasks) -> None:
    with pytest.raises(ModelError, match="NaN among its list scores"):
        evaluate(Constant(60, torch.nan), tasks, device=CPU)


def test_no_task_gives_an_empty_frame(task_data: TaskData) -> None:
    none = evaluation_episodes(task_data, TEST[:0], support_sizes=(0,), max_query=8, seed=1)
    frame = evaluate(Constant(60), none, device=CPU)
    assert frame.schema == TASK_SCHEMA
    assert frame.is_empty()
    assert summarise(frame).is_empty()


def test_summary_is_a_mean_over_users(
    task_data: TaskData, tasks: EvaluationTasks, bias: Bias, popularity: Popularity
) -> None:
    frame = pl.concat([evaluate(learner, tasks, device=CPU) for learner in (popularity, bias)])
    summary = summarise(frame)
    assert summary["learner"].unique(maintain_order=True).to_list() == ["popularity", "bias"]
    assert summary["support_size"].unique(maintain_order=True).to_list() == ["0", "2", "5", "all"]
    assert len(summary) == 2 * 4 * len(METRICS)

    def row(learner: str, size: str, metric: str) -> dict[str, object]:
        return summary.row(
            by_predicate=(pl.col("learner") == learner)
            & (pl.col("support_size") == size)
            & (pl.col("metric") == metric),
            named=True,
        )

    by_user = frame.filter(pl.col("learner") == "bias").group_by("user").agg(pl.col("mae").mean())
    overall = row("bias", "all", "mae")
    assert overall["value"] == pytest.approx(by_user["mae"].mean())
    assert overall["se"] == pytest.approx(by_user["mae"].std() / np.sqrt(len(by_user)))
    assert overall["n"] == len(by_user) == len(TEST)
    unpredicted = row("popularity", "5", "mae")
    assert (unpredicted["value"], unpredicted["se"], unpredicted["n"]) == (None, None, 0)
    shown = row("popularity", "0", "catalogue_coverage_at_10")
    assert shown["value"] == pytest.approx(10 / 60)
    assert shown["se"] is None


def test_ranking_knows_no_unseen_signal(task_data: TaskData, tasks: EvaluationTasks) -> None:
    """A constant scorer gets the catalogue's order, so its NDCG is that of chance or nearly so."""
    frame = evaluate(Constant(60), tasks, device=CPU)
    first = frame.filter(pl.col("support_size") == 0)["top_10"].to_list()
    assert all(top == list(range(10)) for top in first)
    assert frame["coverage_50"].drop_nulls().is_between(0, 1).all()


def test_without_reserved_items_a_learner_that_does_not_adapt_is_flat(
    task_data: TaskData, popularity: Popularity
) -> None:
    tasks = evaluation_episodes(
        task_data, TEST, support_sizes=(0, 2, 5), max_query=8, seed=11, rank_reserved=False
    )
    frame = evaluate(popularity, tasks, device=CPU)
    enough = frame.filter(pl.len().over("user") == 3)
    assert enough["user"].n_unique() >= 5
    spread = enough.group_by("user").agg(pl.col("ndcg_at_10", "recall_at_20").n_unique())
    assert (spread["ndcg_at_10"] == 1).all()
    assert (spread["recall_at_20"] == 1).all()
    known = {
        int(user): set(task_data.interactions.select(np.array([user])).items.tolist())
        for user in TEST
    }
    for batch in tasks.batches(1):
        query = set(batch.episode.items[batch.episode.mask].tolist())
        row = frame.row(
            by_predicate=(pl.col("user") == int(batch.users[0]))
            & (pl.col("support_size") == int(batch.support_size[0])),
            named=True,
        )
        assert not set(row["top_10"]) & (known[row["user"]] - query)


def test_the_calibration_error_is_that_of_all_pairs_of_a_size(
    task_data: TaskData, tasks: EvaluationTasks, bias: Bias, popularity: Popularity
) -> None:
    frame = pl.concat([evaluate(learner, tasks, device=CPU) for learner in (popularity, bias)])
    rng = np.random.default_rng(0)
    probability = rng.random(600)
    stated = pl.DataFrame(
        {
            "learner": ["bias"] * 600,
            "user": rng.integers(25, 40, 600),
            "support_size": rng.choice([0, 5], 600),
            "probability": probability,
            "relevant": rng.random(600) < probability**2,
        }
    )
    found = {
        (row["learner"], row["support_size"]): (row["value"], row["se"], row["n"])
        for row in summarise(frame, stated).filter(pl.col("metric") == "ece").iter_rows(named=True)
    }
    assert all(found["popularity", size] == (None, None, 0) for size in ("0", "2", "5", "all"))
    assert found["bias", "2"] == (None, None, 0)
    for size in ("0", "5", "all"):
        part = stated if size == "all" else stated.filter(pl.col("support_size") == int(size))
        expected = calibration_error(part["probability"].to_numpy(), part["relevant"].to_numpy())
        assert found["bias", size] == (pytest.approx(expected), None, part["user"].n_unique())
    others = pl.col("metric") != "ece"
    assert summarise(frame, stated).filter(others).equals(summarise(frame).filter(others))
