"""Figures of published lists, from the files that readers get."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from metarec_core.episodes.types import InteractionMatrix, ValueScale
from metarec_core.evaluation.diversity import diversity_figures
from metarec_core.evaluation.explanations import stability
from metarec_core.ranking.diversity.space import ItemSpace
from metarec_core.ranking.request import Audience
from metarec_core.schema import RECOMMENDATIONS_SCHEMA, Feedback
from metarec_core.serving import appraisal


def lists_of(rows, segment=lambda user: "1-4"):
    frame = pl.DataFrame(
        {
            "user_id": [user for user, items in rows for _ in items],
            "rank": [place for _, items in rows for place in range(1, len(items) + 1)],
            "item_id": [f"i{item}" for _, items in rows for item in items],
            "segment": [segment(user) for user, items in rows for _ in items],
        }
    )
    nothing = {
        name: pl.lit(None, dtype=kind)
        for name, kind in RECOMMENDATIONS_SCHEMA.items()
        if name not in frame.columns
    }
    return frame.with_columns(**nothing).select(RECOMMENDATIONS_SCHEMA.names())


@pytest.fixture
def tonight():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((6, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    kinds = np.eye(2, dtype=np.float32)[[0, 1, 0, 1, 1, 0]]
    matrix = InteractionMatrix(
        np.array([0, 2, 3, 3]), np.array([0, 1, 5]), np.array([5.0, 1.0, 1.0], dtype=np.float32)
    )
    audience = Audience(pl.Series(["u0", "u1", "u2"]), matrix, np.zeros((3, 0), np.float32))
    return SimpleNamespace(
        bundle=SimpleNamespace(
            catalogue=pl.DataFrame({"item_id": [f"i{n}" for n in range(6)]}),
            scale=ValueScale(Feedback.EXPLICIT, 1.0, 5.0, 4.0),
        ),
        translation=SimpleNamespace(audience=audience),
        space=ItemSpace(vectors.astype(np.float32), kinds, ("A", "B"), np.full(6, 0.5)),
    )


def test_figures_of_everybody_and_of_each_segment(tonight):
    lists = lists_of(
        [("u2", [3, 1]), ("u0", [2, 4, 5])], segment=lambda user: "0" if user == "u2" else "1-4"
    )
    found = appraisal.list_figures(tonight, lists)
    items = np.array([[2, 4, 5], [3, 1, -1]])
    history, known = np.array([[0, 1], [0, 0]]), np.array([[True, True], [False, False]])
    # Of the two ratings of u0 one is good; nobody likes what was rated low.
    liked = np.array([[True, False], [False, False]])
    for segment, rows in (("all", [0, 1]), ("1-4", [0]), ("0", [1])):
        wanted = diversity_figures(
            items[rows], tonight.space, history[rows], known[rows], liked=liked[rows]
        )
        part = found.filter(pl.col("segment") == segment)
        figures = dict(zip(part["metric"], part["value"], strict=True))
        assert figures == pytest.approx({n: v for n, v in wanted.items() if np.isfinite(v)})


def test_of_many_users_some_are_drawn_with_their_whole_lists(tmp_path, monkeypatch):
    monkeypatch.setattr(appraisal, "MOST_USERS", 5)
    rows = [(f"u{user:02d}", [user % 6, (user + 1) % 6]) for user in range(20)]
    paths = []
    for number in range(2):
        paths.append(tmp_path / f"shard-{number}.parquet")
        lists_of(rows[10 * number : 10 * number + 10]).write_parquet(paths[-1])
    drawn = appraisal.drawn_lists(paths, seed=3)
    assert drawn["user_id"].n_unique() == 5
    assert len(drawn) == 10
    assert drawn.equals(appraisal.drawn_lists(paths, seed=3))
    assert not drawn.equals(appraisal.drawn_lists(paths, seed=4))
    monkeypatch.setattr(appraisal, "MOST_USERS", 20)
    assert appraisal.drawn_lists(paths, seed=3)["user_id"].n_unique() == 20


def test_a_new_user_does_not_change_whom_the_former_night_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(appraisal, "MOST_USERS", 5)
    rows = [(f"u{user:02d}", [user % 6, (user + 1) % 6]) for user in range(40)]
    now, before = tmp_path / "now.parquet", tmp_path / "before.parquet"
    lists_of([("new", [0]), *rows]).sort("user_id").write_parquet(now)
    lists_of(rows[1:]).write_parquet(before)
    for seed in range(8):
        drawn = appraisal.drawn_lists([now], seed)
        former = appraisal.lists_of([before], drawn["user_id"])
        strangers = {"new", "u00"}
        assert set(former["user_id"]) == set(drawn["user_id"]) - strangers
        told = dict(stability(drawn, former).rows())
        assert told["entries_in_both"] == 1.0
