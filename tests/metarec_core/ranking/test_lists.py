from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metarec_core.config import Config
from metarec_core.episodes.types import InteractionMatrix, Support
from metarec_core.errors import ConfigError, ModelError
from metarec_core.learners.bias import Bias, BiasConfig
from metarec_core.learners.popularity import Popularity, PopularityConfig
from metarec_core.ranking import blocks as blocks_module
from metarec_core.ranking.lists import Audience, ListSettings, rank, segments
from metarec_core.schema import RECOMMENDATIONS_SCHEMA, segment


class TablePredictor:
    """Looks scores up; the user's row is the first user feature."""

    def __init__(self, table: Tensor, support: Support) -> None:
        self._scores = table[support.user_features[:, 0].long()]

    def scores(self, items: Tensor | None = None) -> Tensor:
        return self._scores if items is None else self._scores.gather(1, items)

    def mean_var(self, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        scores = self.scores(items)
        return scores / 2, torch.full_like(scores, 0.25)


class TableLearner:
    name = "table"

    def __init__(self, table: np.ndarray) -> None:
        self.table = torch.from_numpy(np.asarray(table, dtype=np.float32))
        self.shapes: list[tuple[int, int]] = []

    def adapt(self, support: Support) -> TablePredictor:
        self.shapes.append(tuple(support.items.shape))
        return TablePredictor(self.table, support)


def catalogue(n: int) -> pl.DataFrame:
    ids = [f"i{index:05d}" for index in range(n)]
    return pl.DataFrame({"item_id": ids, "title": [f"Title {item}" for item in ids]})


def matrix(rows: Sequence[Sequence[int]], values: Sequence[Sequence[float]] | None = None):
    flat = [item for row in rows for item in sorted(row)]
    rated = [v for row in values for v in row] if values else [1.0] * len(flat)
    return InteractionMatrix(
        indptr=np.cumsum([0, *map(len, rows)]).astype(np.int64),
        items=np.array(flat, dtype=np.int64),
        values=np.array(rated, dtype=np.float32),
    )


def audience(histories: InteractionMatrix) -> Audience:
    n = histories.n_users
    return Audience(
        pl.Series("user_id", [f"u{row}" for row in range(n)], dtype=pl.String),
        histories,
        np.arange(n, dtype=np.float32)[:, None],
    )


def lists(learner, n_items: int, histories: InteractionMatrix, **wanted) -> pl.DataFrame:
    frames = rank(learner, catalogue(n_items), audience(histories), ListSettings(**wanted))
    return pl.concat(frames)


@st.composite
def requests(draw: st.DrawFn) -> dict:
    n_users, n_items = draw(st.integers(0, 9)), draw(st.integers(1, 12))
    item_sets = st.sets(st.integers(0, n_items - 1))
    level = st.sampled_from([-1.0, 0.0, 0.5, 2.0])
    return {
        "table": np.array(
            [[draw(level) for _ in range(n_items)] for _ in range(n_users)], dtype=np.float32
        ).reshape(n_users, n_items),
        "seen": [sorted(draw(item_sets)) for _ in range(n_users)],
        "k": draw(st.integers(1, 14)),
        "tile_users": draw(st.integers(1, 11)),
        "exclude": draw(st.none() | item_sets),
        "candidates": draw(st.none() | item_sets),
    }


@settings(deadline=None)
@given(requests())
def test_lists_equal_brute_force(request: dict) -> None:
    table, seen = request["table"], request["seen"]
    expected = []
    for user, scores in enumerate(table):
        open_items = set(range(table.shape[1])) - set(seen[user]) - (request["exclude"] or set())
        if request["candidates"] is not None:
            open_items &= request["candidates"]
        best = sorted(open_items, key=lambda item: (-scores[item], item))[: request["k"]]
        expected += [
            (f"u{user}", place, f"i{item:05d}", float(scores[item]))
            for place, item in enumerate(best, start=1)
        ]

    def indices(items: set[int] | None) -> np.ndarray | None:
        return None if items is None else np.array(sorted(items), dtype=np.int64)

    got = lists(
        TableLearner(table if len(table) else np.zeros((1, table.shape[1]))),
        table.shape[1],
        matrix(seen),
        k=request["k"],
        tile_users=request["tile_users"],
        exclude=indices(request["exclude"]),
        candidates=indices(request["candidates"]),
    )

    assert got.schema == RECOMMENDATIONS_SCHEMA
    assert got.select("user_id", "rank", "item_id", "score").rows() == expected
    assert (got["title"] == "Title " + got["item_id"]).all()
    assert np.allclose(got["rating"], got["score"] / 2)
    assert (got["sd"] == 0.5).all()


@pytest.fixture(scope="module")
def ratings() -> InteractionMatrix:
    rng = np.random.default_rng(5)
    lengths = np.minimum(rng.geometric(0.03, size=300) - 1, 380)
    rows = [np.sort(rng.choice(400, size=n, replace=False)) for n in lengths]
    return matrix(rows, [rng.integers(1, 6, size=n).astype(float) for n in lengths])


@pytest.fixture(scope="module")
def bias() -> Bias:
    learner = Bias(BiasConfig())
    generator = torch.Generator().manual_seed(3)
    learner.item_bias = torch.randn(400, generator=generator)
    learner.item_count = torch.ones(400)
    learner.mu = torch.tensor(3.5)
    return learner


def test_tile_size_changes_nothing(bias: Bias, ratings: InteractionMatrix) -> None:
    whole = lists(bias, 400, ratings, k=20, tile_users=10_000)
    for tile_users in (1, 7, 64, 128):
        assert lists(bias, 400, ratings, k=20, tile_users=tile_users).equals(whole)


def test_the_noise_of_a_last_bit_changes_nothing() -> None:
    rng = np.random.default_rng(2)
    table = rng.normal(size=(40, 300))
    table[:, 150:] = table[:, :150]

    class Noisy(TableLearner):
        def adapt(self, support: Support) -> TablePredictor:
            noise = rng.normal(scale=1e-15, size=table.shape)
            return TablePredictor(torch.from_numpy(table + noise), support)

    histories = matrix([[]] * 40)
    first = lists(Noisy(table), 300, histories, k=9)
    assert lists(Noisy(table), 300, histories, k=9).equals(first)
    best = table[:, :150].argsort(axis=1)[:, ::-1][:, :5]
    twins = np.stack([best, best + 150], axis=2).reshape(40, -1)[:, :9]
    assert first["item_id"].to_list() == [f"i{item:05d}" for item in twins.ravel()]


def test_companions_change_nothing(bias: Bias, ratings: InteractionMatrix) -> None:
    whole = lists(bias, 400, ratings, k=5)
    users = np.array([250, 3, 77])
    everyone = audience(ratings)
    alone = rank(
        bias,
        catalogue(400),
        Audience(
            everyone.user_ids.gather(users),
            ratings.select(users),
            everyone.user_features[users],
        ),
        ListSettings(k=5),
    )
    expected = pl.concat(whole.filter(pl.col("user_id") == f"u{user}") for user in users)
    assert pl.concat(alone).equals(expected)


@pytest.mark.parametrize("named", [0, 3, 50])
def test_reasons_sum_to_the_score(bias: Bias, ratings: InteractionMatrix, named: int) -> None:
    got = lists(bias, 400, ratings, k=10, reasons=named, tile_users=50)

    sums = got["reasons"].list.eval(pl.element().struct.field("share")).list.sum()
    assert np.array_equal(sums, got["score"])
    kinds = got.select("support_size", pl.col("reasons").list.eval(pl.element().struct["kind"]))
    for size, row in kinds.unique(maintain_order=True).rows():
        expected = ["item", "prior"] + ["support"] * min(named, size)
        assert row == expected + ["rest"] * (size > named)


def test_the_strongest_interactions_are_named(bias: Bias) -> None:
    histories = matrix([[1, 2, 3, 4, 5]], [[5.0, 1.0, 4.0, 2.0, 5.0]])
    got = lists(bias, 400, histories, k=4, reasons=2)

    strength = (histories.values - 3.5 - bias.item_bias[histories.items].numpy()) / (5 + 3)
    strongest = histories.items[np.argsort(-np.abs(strength))[:2]]
    for reasons in got["reasons"]:
        named = [reason for reason in reasons if reason["kind"] == "support"]
        assert [reason["item_id"] for reason in named] == [f"i{item:05d}" for item in strongest]
        assert [reason["title"] for reason in named] == [f"Title i{i:05d}" for i in strongest]
        assert [reason["value"] for reason in named] == [
            float(histories.values[list(histories.items).index(item)]) for item in strongest
        ]
        others = [reason for reason in reasons if reason["kind"] != "support"]
        assert all(reason["item_id"] is reason["value"] is None for reason in others)


def test_many_shares_are_made_in_parts(
    bias: Bias, ratings: InteractionMatrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = lists(bias, 400, ratings, k=12)
    monkeypatch.setattr("metarec_core.ranking.reasons.MOST_SHARES", 32 * 16 * 5)
    assert lists(bias, 400, ratings, k=12).equals(whole)


def test_a_learner_without_predictions_leaves_them_null(ratings: InteractionMatrix) -> None:
    learner = Popularity(PopularityConfig())
    learner.log_counts = torch.ones(400)
    got = lists(learner, 400, ratings, k=3)

    assert got["rating"].null_count() == got["sd"].null_count() == len(got)
    fresh = got.filter(pl.col("support_size") == 0)
    assert fresh["item_id"].to_list()[:3] == ["i00000", "i00001", "i00002"]


def test_a_learner_without_shares_gives_no_reasons() -> None:
    got = lists(TableLearner(np.ones((2, 5))), 5, matrix([[0], []]), k=2)
    assert got["reasons"].to_list() == [[], [], [], []]


def test_a_long_history_shrinks_its_block() -> None:
    learner = TableLearner(np.zeros((70, 3000)))
    lists(learner, 3000, matrix([list(range(2900)), *[[1]] * 69]), k=1)

    assert sorted(set(learner.shapes)) == [(16, 4096), (32, 16)]
    assert all(rows * width <= blocks_module.BLOCK_ENTRIES for rows, width in learner.shapes)


def test_a_large_catalogue_shrinks_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks_module, "BLOCK_SCORES", 2000)
    learner = TableLearner(np.zeros((70, 1000)))
    assert len(lists(learner, 1000, matrix([[]] * 70), k=1)) == 70
    assert set(learner.shapes) == {(2, 16)}


@pytest.mark.parametrize("n_candidates", [3, 1500])
def test_candidates_get_the_scores_of_the_whole_catalogue(n_candidates: int) -> None:
    rng = np.random.default_rng(0)
    learner = TableLearner(rng.normal(size=(3, 2000)))
    chosen = np.sort(rng.choice(2000, n_candidates, replace=False))
    histories = matrix([[], chosen[:2].tolist(), [5]])

    got = lists(learner, 2000, histories, k=2000, candidates=chosen)
    whole = lists(learner, 2000, histories, k=2000)

    names = [f"i{item:05d}" for item in chosen]
    expected = whole.filter(pl.col("item_id").is_in(names)).drop("rank", "rule_flags")
    assert got.drop("rank", "rule_flags").equals(expected)


def test_frames_come_by_tile_in_user_order(ratings: InteractionMatrix, bias: Bias) -> None:
    frames = list(
        rank(
            bias,
            catalogue(400),
            audience(ratings),
            ListSettings(k=2, tile_users=128),
            run_date=date(2026, 11, 24),
        )
    )
    assert [frame["user_id"].n_unique() for frame in frames] == [128, 128, 44]
    assert pl.concat(frames)["user_id"].unique(maintain_order=True).to_list() == [
        f"u{row}" for row in range(300)
    ]
    assert frames[0]["run_date"].unique().to_list() == [date(2026, 11, 24)]


def test_gradients_stay_on_for_the_caller(ratings: InteractionMatrix, bias: Bias) -> None:
    frames = rank(bias, catalogue(400), audience(ratings), ListSettings(k=1, tile_users=10))
    next(frames)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(ModelError, match="NaN or infinite"):
        lists(TableLearner(np.array([[1.0, bad]])), 2, matrix([[]]), k=1)


def test_another_catalogue_is_refused() -> None:
    with pytest.raises(ModelError, match="scores of 3 items"):
        lists(TableLearner(np.ones((1, 3))), 2, matrix([[]]), k=1)
    with pytest.raises(ModelError, match="item index 7"):
        lists(TableLearner(np.ones((1, 3))), 3, matrix([[7]]), k=1)


@pytest.mark.parametrize("wrong", [{"k": 0}, {"k": 1, "reasons": -1}, {"k": 1, "tile_users": 0}])
def test_settings_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match="at least"):
        lists(TableLearner(np.ones((1, 3))), 3, matrix([[]]), **wrong)


def test_segments_are_those_of_the_schema() -> None:
    sizes = np.arange(60)
    assert segments(sizes).to_list() == [segment(size) for size in sizes.tolist()]


def test_defaults_are_those_of_the_configuration() -> None:
    configured = Config().recommend
    assert ListSettings(configured.k) == ListSettings(configured.k, reasons=configured.reasons)
