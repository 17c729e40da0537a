from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pytest

from metarec_core.config import Config
from metarec_core.errors import ConfigError, ModelError
from metarec_core.learners.registry import LEARNERS
from metarec_core.ranking.lists import Audience, ListSettings, rank
from metarec_core.schema import Feedback
from metarec_core.serving import recommender as recommender_module
from metarec_core.serving.bundle import Bundle
from metarec_core.serving.history import IGNORED_SCHEMA
from metarec_core.serving.plan import reason_detail
from metarec_core.serving.recommender import SERVED_SCHEMA, Recommender


@pytest.fixture
def recommender(bundles: dict[str, Bundle]) -> Recommender:
    return Recommender(bundles["bias"])


def reasons_by_row(result) -> dict[int, str]:
    return dict(result.ignored.select("row", "reason").rows())


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_the_day_agrees_with_the_night(name: str, bundles: dict[str, Bundle], world) -> None:
    """One user at a time by day, everyone in small tiles by night: the same bits."""
    bundle = bundles[name]
    audience = Audience(world.users["user_id"], world.data.interactions, world.data.user_features)
    usual = Config().recommend
    wanted = ListSettings(
        k=5,
        tile_users=13,
        detail=reason_detail(bundle, deletions=usual.deletions, features=usual.features),
    )
    night = pl.concat(rank(bundle.learner, world.catalogue, audience, wanted)).drop("run_date")
    serve = Recommender(bundle)

    for user in (0, 17, 50, 89):
        person = world.users.filter(user_id=f"{user:03d}")
        rows = person.join(world.rows([user]), on="user_id", how="left")
        expected = night.filter(user_id=f"{user:03d}")
        shuffled = rows.sample(fraction=1.0, shuffle=True, seed=user)
        assert serve.recommend(shuffled, k=5).frame.equals(expected)
        assert serve.recommend(rows.to_pandas(), k=5).frame.equals(expected)


def test_users_come_in_order_of_first_appearance(recommender: Recommender, world) -> None:
    rows = world.rows([30, 2, 11]).sample(fraction=1.0, shuffle=True, seed=4)
    got = recommender.recommend(rows, k=2)

    assert got.frame.schema == SERVED_SCHEMA
    order = rows["user_id"].unique(maintain_order=True).to_list()
    assert got.frame["user_id"].unique(maintain_order=True).to_list() == order
    assert got.ignored.schema == IGNORED_SCHEMA
    assert got.ignored.is_empty()


def test_bad_rows_are_left_out_and_reported(
    recommender: Recommender, caplog: pytest.LogCaptureFixture
) -> None:
    rows = pd.DataFrame(
        [
            ("u", 100, 5),
            ("u", 999, 5),
            ("u", 101, "five"),
            ("u", 102, float("nan")),
            ("u", 103, 17.5),
            ("u", 104, float("inf")),
            (None, 105, 3),
            ("u", None, 4),
            ("u", 106, 2),
            ("u", 106, "4.0"),
            ("w", 998, 1),
        ],
        columns=["user_id", "item_id", "rating"],
    )
    with caplog.at_level(logging.WARNING):
        got = recommender.recommend(rows, k=40)

    assert reasons_by_row(got) == {
        1: "unknown item",
        2: "rating is not a number",
        3: "no rating",
        4: "rating outside 1 to 5",
        5: "rating is not a number",
        6: "no user_id",
        7: "a rating without item_id",
        8: "rated again further down; the last row counts",
        10: "unknown item",
    }
    assert got.ignored["found"].to_list()[:2] == ["5", "five"]
    sizes = dict(got.frame.select("user_id", "support_size").unique().rows())
    assert sizes == {"u": 2, "w": 0}
    seen = set(got.frame.filter(user_id="u")["item_id"])
    assert {"100", "106"}.isdisjoint(seen)
    assert {"101", "102", "103"} < seen
    assert "9 value(s) of a request of 11 row(s) ignored" in caplog.text
    notes = dict(got.annotated().select("user_id", "ignored").unique().rows())
    assert notes["w"] == "unknown item (row 10, 998)"
    assert notes["u"].startswith("unknown item (row 1, 999); rating is not a number (row 2, 101)")
    clean = recommender.recommend(rows.iloc[[0, 9]].assign(rating=[5.0, 4.0]), k=40)
    assert clean.frame.equals(got.frame.filter(user_id="u"))
    assert clean.annotated()["ignored"].null_count() == len(clean.frame)


@pytest.mark.parametrize(
    "rows",
    [
        pl.DataFrame({"user_id": [7], "item_id": [100], "rating": [4]}),
        pl.DataFrame({"user_id": [7.0], "item_id": [100.0], "rating": ["4"]}),
        pl.DataFrame({"user_id": ["7"], "item_id": ["100"], "rating": [4.0]}),
        pd.DataFrame({"user_id": [7], "item_id": [100], "rating": [4]}),
        pd.DataFrame({"user_id": [7.0], "item_id": [100.0], "rating": [" 4 "]}),
        pd.DataFrame({"user_id": [7.0], "item_id": ["100"], "rating": [4]}, dtype=object),
        pd.DataFrame({"user_id": [7], "item_id": [100], "rating": [4]}, dtype="Int64"),
        pd.DataFrame({"user_id": [np.int32(7)], "item_id": [np.float32(100)], "rating": [4]}),
        pd.DataFrame({"user_id": ["7"], "item_id": ["100"], "rating": [4]}, dtype="string"),
    ],
)
def test_ids_and_ratings_of_any_type(recommender: Recommender, rows) -> None:
    got = recommender.recommend(rows, k=1)
    assert got.ignored.is_empty()
    assert got.frame.select("user_id", "support_size").rows() == [("7", 1)]


def test_features_alone_give_the_prior(bundles: dict[str, Bundle], world) -> None:
    serve = Recommender(bundles["gaussian"])
    missing = [None, float("nan")]
    for item in missing:
        rows = pd.DataFrame(
            {
                "user_id": ["old", "young"],
                "item_id": [item, item],
                "rating": [np.nan, np.nan],
                "age": [69, 18],
                "occupation": ["artist", "writer"],
            }
        )
        got = serve.recommend(rows, k=3)
        assert got.ignored.is_empty()
        assert got.frame["support_size"].to_list() == [0] * 6
    bare = serve.recommend(rows[["user_id", "age", "occupation"]], k=3)
    assert bare.frame.equals(got.frame)
    by_user = got.frame.partition_by("user_id", as_dict=True)
    assert not by_user["old",]["score"].equals(by_user["young",]["score"])
    kinds = [[reason["kind"] for reason in row] for row in got.frame["reasons"]]
    assert kinds == [["item", "prior"]] * 6


def test_the_first_feature_value_that_is_there_counts(bundles: dict[str, Bundle]) -> None:
    serve = Recommender(bundles["gaussian"])
    rows = pl.DataFrame(
        {
            "user_id": ["a", "a", "a"],
            "item_id": ["100", "101", "102"],
            "rating": [5, 4, 3],
            "age": [None, "31", "60"],
            "hobbies": [None, "film|chess", ""],
        }
    )
    simple = rows.with_columns(
        age=pl.lit(31.0), hobbies=pl.lit(["chess", "film"], dtype=pl.List(pl.String))
    )
    got = serve.recommend(rows)
    assert got.ignored.is_empty()
    assert got.frame.equals(serve.recommend(simple).frame)
    assert got.frame.equals(serve.recommend(simple.to_pandas()).frame)


def test_a_feature_that_is_no_number_is_reported(bundles: dict[str, Bundle]) -> None:
    serve = Recommender(bundles["gaussian"])
    got = serve.recommend(pd.DataFrame({"user_id": ["a", "b"], "age": ["young", 30]}), k=2)

    assert got.ignored.rows() == [(0, "a", None, "young", "feature age is not a number")]
    without = serve.recommend(pd.DataFrame({"user_id": ["a"]}), k=2)
    assert got.frame.filter(user_id="a").equals(without.frame)


def test_exclude_and_candidates(recommender: Recommender) -> None:
    rows = pl.DataFrame({"user_id": ["a"], "item_id": ["100"], "rating": [5]})
    got = recommender.recommend(rows, candidates=[100, 101, "102", 103.0, "gone"], exclude=["103"])

    assert set(got.frame["item_id"]) == {"101", "102"}
    assert got.ignored.rows() == [
        (None, None, "gone", "gone", "unknown item in parameter candidates")
    ]
    everything = recommender.recommend(rows, k=100, exclude=(101, 102)).frame["item_id"]
    assert len(everything) == 37
    assert {"100", "101", "102"}.isdisjoint(everything)
    assert recommender.recommend(rows, candidates=[]).frame.is_empty()


def test_no_rows_no_lists(recommender: Recommender) -> None:
    rows = pl.DataFrame({"user_id": [], "item_id": [], "rating": []})
    got = recommender.recommend(rows)
    assert got.frame.schema == SERVED_SCHEMA
    assert got.frame.is_empty()
    assert got.annotated().is_empty()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"k": 0}, "parameter k"),
        ({"k": "ten"}, "parameter k"),
        ({"k": 2.5}, "parameter k"),
        ({"reasons": -1}, "parameter reasons"),
        ({"exclude": "100"}, "parameter exclude"),
        ({"candidates": 100}, "parameter candidates"),
    ],
)
def test_bad_parameters(recommender: Recommender, wanted: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recommender.recommend(pl.DataFrame({"user_id": ["a"]}), **wanted)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["item_id", "rating"], "no column 'user_id'"),
        (["user_id", "item_id"], "no column 'rating'"),
        (["user_id", "rating"], "no column 'item_id'"),
        (["user_id", "aeg"], "unknown column 'aeg'"),
    ],
)
def test_bad_columns(recommender: Recommender, columns: list[str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        recommender.recommend(pl.DataFrame({name: ["1"] for name in columns}))


def test_an_event_without_weight_counts_as_relevant(bundles: dict[str, Bundle]) -> None:
    bundle = bundles["popularity"]
    scale = replace(bundle.scale, feedback=Feedback.IMPLICIT, relevant_from=1.0)
    serve = Recommender(replace(bundle, scale=scale))
    got = serve.recommend(pl.DataFrame({"user_id": ["a", "a"], "item_id": ["100", None]}), k=1)

    assert got.ignored.is_empty()
    assert got.frame["support_size"].to_list() == [1]
    assert got.frame["reasons"][0].to_list()[2]["value"] == 1.0


def test_many_users_at_once(bundles: dict[str, Bundle], world) -> None:
    serve = Recommender(bundles["gaussian"])
    one = world.rows([5, 6, 7])
    many = pl.concat(
        one.with_columns(user_id=pl.format("{}-{}", "user_id", pl.lit(copy))) for copy in range(400)
    )
    got = serve.recommend(many, k=2).frame
    assert got["user_id"].n_unique() == 1200
    scores = got.with_columns(pl.col("user_id").str.head(3)).unique(["user_id", "rank", "score"])
    assert len(scores) == 6


def test_modes_change_the_lists_of_a_learner_that_has_them(bundles, world) -> None:
    recommender = Recommender(bundles["amortised"])
    rows = world.rows([3, 17]).join(world.users, on="user_id", how="left")
    lists = {
        mode: recommender.recommend(rows, mode=mode).frame["score"].to_list()
        for mode in ("personalised", "collaborative", "content")
    }
    assert recommender.recommend(rows).frame["score"].to_list() == lists["personalised"]
    assert len({tuple(scores) for scores in lists.values()}) == 3
    strangers = rows.with_columns(age=pl.lit(20.0), occupation=pl.lit("artist"))
    same = recommender.recommend(strangers, mode="collaborative").frame["score"].to_list()
    assert same == lists["collaborative"]


def test_a_mode_that_the_model_lacks_is_refused(recommender: Recommender, world) -> None:
    with pytest.raises(ModelError, match="cannot leave signals aside"):
        recommender.recommend(world.rows([3]), mode="content")


def test_more_entries_than_items_are_no_more_work(bundles: dict[str, Bundle], world) -> None:
    serve = Recommender(bundles["gaussian"])
    rows = world.rows([3, 17])
    everything = serve.recommend(rows, k=41, reasons=20).frame
    assert everything.filter(rank=1)["rule_flags"].to_list() == [[], []]
    last = everything.group_by("user_id", maintain_order=True).last()
    assert last["rule_flags"].to_list() == [
        [f"short: only {40 - size} open items"] for size in last["support_size"]
    ]
    # As arrays these would hold terabytes.
    assert serve.recommend(rows, k=10**12, reasons=10**12).frame.equals(everything)
    few = serve.recommend(rows, k=10**12, candidates=["101", "102", "103"], exclude=["102"]).frame
    assert few.equals(serve.recommend(rows, k=4, candidates=[101, 103]).frame)
    assert serve.recommend(rows, k=10**12, candidates=[]).frame.is_empty()


def test_the_longer_the_lists_the_fewer_are_in_the_works(
    bundles: dict[str, Bundle], world, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve, rows = Recommender(bundles["gaussian"]), world.rows(list(range(40)))
    answer = {k: serve.recommend(rows, k=k).frame for k in (1, 5, 10**6)}
    tiles: list[int] = []

    def watched(*parts, **named):
        tiles.append(parts[3].tile_users)
        return rank(*parts, **named)

    monkeypatch.setattr(recommender_module, "rank", watched)
    monkeypatch.setattr(recommender_module, "_TILE_ENTRIES", 40)
    for k, frame in answer.items():
        assert serve.recommend(rows, k=k).frame.equals(frame)
    assert tiles == [40, 8, 1]
