"""Measures of protocols against plain computations, and tasks in which the query alone competes."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from torch import Tensor

from metarec_core.calibration.curves import Affine
from metarec_core.calibration.relevance import Basis, RelevanceCalibration
from metarec_core.calibration.sizes import KNOTS
from metarec_core.episodes.fixed import FixedTasks, rows_of
from metarec_core.episodes.types import Support
from metarec_core.evaluation import evaluate, metrics
from metarec_core.evaluation.measures import measures

CPU = torch.device("cpu")
VALUES = np.array([5, 3, 4, 1, 2], dtype=np.float32)
QUERY = np.array([9, 2, 4, 7, 0])


class Given:
    """Forecasts and list scores laid down by item."""

    name = "given"

    def __init__(self, forecast: Tensor, score: Tensor) -> None:
        self._forecast, self._score = forecast, score

    def adapt(self, support: Support) -> Given:
        self._users = len(support.items)
        return self

    def scores(self, items: Tensor | None = None) -> Tensor:
        whole = self._score.expand(self._users, -1)
        return whole if items is None else whole.gather(1, items)

    def mean_var(self, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        assert items is not None
        mean = self._forecast.expand(self._users, -1).gather(1, items)
        return mean, torch.full_like(mean, 0.25)


def tasks(n: int = 1, **changes: object) -> FixedTasks:
    nothing = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))
    settings: dict[str, object] = {
        "users": np.arange(n),
        "user_features": np.zeros((n, 0), dtype=np.float32),
        "n_items": 10,
        "support": rows_of([nothing] * n),
        "query": rows_of([(QUERY, VALUES)] * n),
        "targets": np.tile(VALUES >= 4, n),
        "among_query": True,
    }
    return FixedTasks(**(settings | changes))  # type: ignore[arg-type]


def test_the_query_is_ranked_by_forecast_with_graded_gains() -> None:
    forecast = torch.zeros(10)
    forecast[torch.from_numpy(QUERY)] = torch.tensor([4.5, 4.9, 2.0, 1.0, 3.0])
    learner = Given(forecast, -forecast)
    asked = measures(
        "graded_ndcg_at_1", "graded_ndcg_at_3", "precision_at_5", "mrr_at_5", "ndcg_at_3", "mse"
    )
    row = evaluate(learner, tasks(), device=CPU, measures=asked).row(0, named=True)
    order = [3, 5, 2, 4, 1]

    def dcg(stars: list[int], k: int) -> float:
        return sum((2**star - 1) / math.log2(place + 2) for place, star in enumerate(stars[:k]))

    for k in (1, 3):
        assert row[f"graded_ndcg_at_{k}"] == pytest.approx(dcg(order, k) / dcg([5, 4, 3, 2, 1], k))
    assert row["precision_at_5"] == pytest.approx(2 / 5)
    assert row["mrr_at_5"] == pytest.approx(1 / 2)
    ideal = 1 + 1 / math.log2(3)
    assert row["ndcg_at_3"] == pytest.approx((1 / math.log2(3)) / ideal)
    assert row["mse"] == pytest.approx(
        float(((VALUES - np.array([4.5, 4.9, 2.0, 1.0, 3.0])) ** 2).mean())
    )
    assert row["top_10"] == [2, 9, 0, 4, 7]


def test_without_forecasts_list_scores_rank_the_query() -> None:
    score = torch.zeros(10)
    score[torch.from_numpy(QUERY)] = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    learner = Given(torch.full((10,), torch.nan), score)
    row = evaluate(
        learner, tasks(), device=CPU, measures=measures("mae", "mrr_at_5"), threshold=3.5
    ).row(0, named=True)
    assert row["top_10"] == [0, 7, 4, 2, 9]
    assert row["mrr_at_5"] == pytest.approx(1 / 3)
    assert row["mae"] is None
    assert all(math.isnan(value) for value in row["probability"])


def test_ties_are_broken_by_chance_and_by_user() -> None:
    learner = Given(torch.zeros(10), torch.zeros(10))
    frames = [
        evaluate(learner, tasks(400), device=CPU, batch_size=size, measures=measures("ndcg_at_1"))
        for size in (400, 7)
    ]
    assert frames[0].equals(frames[1])
    # Two of five are targets; nobody knows which.
    assert frames[0]["ndcg_at_1"].mean() == pytest.approx(0.4, abs=0.08)
    catalogue = tasks(400, among_query=False, candidates=QUERY, tie_seed=1)
    full = evaluate(learner, catalogue, device=CPU, measures=measures("ndcg_at_1"))
    assert full["ndcg_at_1"].mean() == pytest.approx(0.4, abs=0.08)
    again = evaluate(
        learner,
        tasks(400, among_query=False, candidates=QUERY, tie_seed=2),
        device=CPU,
        measures=measures("ndcg_at_1"),
    )
    assert full["top_10"].to_list() != again["top_10"].to_list()
    assert all(set(top[:5]) == set(QUERY.tolist()) for top in full["top_10"])


def test_probabilities_of_relevance_and_their_error() -> None:
    forecast = torch.full((10,), 3.5)
    frame = evaluate(
        Given(forecast, forecast), tasks(), device=CPU, measures=measures("mae"), threshold=3.5
    )
    assert frame["probability"].to_list() == [[0.5] * 5]
    assert frame["uncalibrated"].to_list() == [[0.5] * 5]
    assert frame["relevant"].to_list() == [[True, False, True, False, False]]
    high = metrics.relevance_probability(torch.tensor([4.0]), torch.tensor([0.25]), 3.5)
    assert float(high) == pytest.approx(0.8413, abs=1e-4)
    rng = np.random.default_rng(0)
    stated = rng.random(30_000)
    came = rng.random(30_000) < stated
    assert metrics.calibration_error(stated, came) < 0.02
    assert metrics.calibration_error(stated**2, came) == pytest.approx(1 / 6, abs=0.02)
    assert math.isnan(metrics.calibration_error(stated[:0], came[:0]))


def test_a_calibrated_learner_states_its_calibrated_probabilities() -> None:
    forecast, score = torch.linspace(2.0, 5.0, 10), torch.linspace(-1.0, 1.0, 10)
    common = {"low": 0.5, "high": 5.5, "threshold": 3.5, "users": 9, "pairs": 99}
    curve = Affine(shift=(0.2,) * len(KNOTS), slope=(0.5,) * len(KNOTS))
    for basis in (Basis.VALUE, Basis.SCORE):
        relevance = RelevanceCalibration(basis=basis, curve=curve, **common)
        row = evaluate(
            Given(forecast, score),
            tasks(),
            device=CPU,
            measures=measures("mae"),
            threshold=3.5,
            relevance=relevance,
        ).row(0, named=True)
        mean, chosen = forecast[QUERY].double().numpy(), score[QUERY].double().numpy()
        expected = relevance.p_relevant(
            mean=mean, variance=np.full(5, 0.25), scores=chosen, support_sizes=np.array(0)
        )
        assert row["probability"] == expected.tolist()
        raw = [1.0 - NormalDist(float(one), 0.5).cdf(3.5) for one in mean]
        assert row["uncalibrated"] == pytest.approx(raw)
        assert row["relevant"] == [True, False, True, False, False]
