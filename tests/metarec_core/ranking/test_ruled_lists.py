"""Lists through search, rules and re-ranking at once."""

from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metarec_core.calibration.curves import Affine
from metarec_core.calibration.relevance import Basis, RelevanceCalibration
from metarec_core.calibration.sizes import KNOTS
from metarec_core.episodes.types import InteractionMatrix
from metarec_core.errors import ConfigError
from metarec_core.learners.base import ItemFactors
from metarec_core.ranking import indexes, pools
from metarec_core.ranking.diversity.settings import DiversityConfig
from metarec_core.ranking.diversity.space import ItemSpace
from metarec_core.ranking.lists import rank
from metarec_core.ranking.request import Audience, Diversity, ListSettings
from metarec_core.ranking.rules import (
    ItemCategories,
    ItemFacts,
    Rules,
    RulesDocument,
    compile_rules,
)
from metarec_core.ranking.rules.table import RULES_SCHEMA, check_table

TODAY = date(2026, 3, 2)


class FactorsPredictor:
    def __init__(self, learner, support):
        self.query = learner.queries[support.user_features[:, 0].long()]
        self._factors = learner.item_factors()

    def scores(self, items=None):
        scores = self.query @ self._factors.vectors.T + self._factors.appeal
        return scores if items is None else scores.gather(1, items)

    def mean_var(self, items=None):
        scores = self.scores(items)
        return scores / 2, torch.full_like(scores, 0.25)


class FactorsLearner:
    name = "factors"

    def __init__(self, queries, vectors, appeal):
        self.queries, self.vectors, self.appeal = map(torch.from_numpy, (queries, vectors, appeal))

    def item_factors(self):
        return ItemFactors(self.vectors, self.appeal)

    def adapt(self, support):
        return FactorsPredictor(self, support)


class Problem:
    """Factors on a coarse grid, so that scores tie; items with at most one category each."""

    def __init__(self, seed, n_users=6, n_items=40, dim=3, seen=0.2):
        rng = np.random.default_rng(seed)
        self.rng, self.n_users, self.n_items = rng, n_users, n_items
        factors = [rng.integers(-2, 3, (n, dim)) / 2.0 for n in (n_users, n_items)]
        self.learner = FactorsLearner(*factors, rng.integers(-2, 3, n_items) / 4.0)
        self.scores = factors[0] @ factors[1].T + self.learner.appeal.numpy()
        rows = [np.flatnonzero(rng.random(n_items) < seen) for _ in range(n_users)]
        counts = [len(row) for row in rows]
        self.seen = [set(row.tolist()) for row in rows]
        matrix = InteractionMatrix(
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            np.concatenate([*rows, []]).astype(np.int64),
            np.ones(sum(counts), dtype=np.float32),
        )
        ids = pl.Series("user_id", [f"u{user}" for user in range(n_users)], dtype=pl.String)
        features = np.arange(n_users, dtype=np.float32)[:, None]
        self.audience = Audience(ids, matrix, features)
        names = [f"i{item:04d}" for item in range(n_items)]
        self.catalogue = pl.DataFrame({"item_id": names, "title": names})
        self.category = rng.integers(0, 4, n_items)

    @property
    def facts(self):
        names = ("A", "B", "C", "D")
        return ItemFacts(ItemCategories(names, self.category[:, None] == np.arange(4)))

    def compile(self, k, rows=(), **document):
        table, _ = check_table(pl.DataFrame(list(rows), schema=RULES_SCHEMA_RAW), "t.csv")
        if not rows:
            table = pl.DataFrame(schema=RULES_SCHEMA)
        if "caps" in document or "quotas" in document:
            document["categories"] = "kind"
        return compile_rules(
            Rules(RulesDocument.model_validate(document), table),
            catalogue=self.catalogue,
            user_ids=self.audience.user_ids,
            histories=self.audience.histories,
            run_date=TODAY,
            k=k,
            facts=self.facts,
        )

    def lists(self, **wanted):
        wanted.setdefault("k", 5)
        frames = rank(self.learner, self.catalogue, self.audience, ListSettings(**wanted))
        return pl.concat(frames)

    def items(self, frame):
        by_user = dict(frame.group_by("user_id").agg("item_id").iter_rows())
        return [
            [int(item[1:]) for item in by_user.get(f"u{user}", [])] for user in range(self.n_users)
        ]


RULES_SCHEMA_RAW = {
    "rule": pl.String,
    "item_id": pl.String,
    "user_id": pl.String,
    "segment": pl.String,
    "from": pl.Date,
    "until": pl.Date,
    "position": pl.Int64,
}


@st.composite
def ruled_problems(draw):
    problem = Problem(draw(st.integers(0, 2**20)), n_items=draw(st.sampled_from([30, 60])))
    item, user = st.integers(0, problem.n_items - 1), st.integers(0, problem.n_users - 1)
    rows = [{"rule": "deny", "item_id": f"i{i:04d}"} for i in draw(st.sets(item, max_size=4))]
    for owner in draw(st.sets(user, max_size=2)):
        allowed = draw(st.sets(item, min_size=1, max_size=8))
        rows += [
            {"rule": "allow", "item_id": f"i{i:04d}", "user_id": f"u{owner}"}
            for i in allowed
            if {"rule": "deny", "item_id": f"i{i:04d}"} not in rows
        ]
    caps = draw(st.dictionaries(st.sampled_from("ABCD"), st.integers(1, 3), max_size=3))
    return problem, rows, caps, draw(st.integers(1, 9)), draw(st.integers(1, 8))


def expected_lists(problem, compiled, caps, k):
    """In plain Python: the best open items, those passed over whose category is full."""
    found = []
    for user in range(problem.n_users):
        chosen, held = [], dict.fromkeys("ABCD", 0)
        open_items = np.flatnonzero(compiled.open_to(user)).tolist()
        for item in sorted(open_items, key=lambda i: (-problem.scores[user, i], i)):
            kind = "ABCD"[problem.category[item]]
            if held[kind] < caps.get(kind, k) and len(chosen) < k:
                chosen.append(item)
                held[kind] += 1
        found.append(chosen)
    return found


@settings(max_examples=80, deadline=None)
@given(given=ruled_problems(), indexed=st.booleans(), worth=st.sampled_from([1, 4, 32]))
def test_random_factors_rules_ties_and_tiles_give_what_brute_force_gives(given, indexed, worth):
    problem, rows, caps, k, tile = given
    compiled = problem.compile(k, rows, **({"caps": caps} if caps else {}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexes, "WORTH_AN_INDEX", 0 if indexed else 10**9)
        patch.setattr(indexes, "WORTH_PREPARING", worth)
        frame = problem.lists(k=k, rules=compiled, tile_users=tile)
    assert problem.items(frame) == expected_lists(problem, compiled, caps, k)
    for user, place, item, score in frame["user_id", "rank", "item_id", "score"].iter_rows():
        assert score == problem.scores[int(user[1:]), int(item[1:])]
        assert place >= 1


def test_caps_reach_below_any_pool(monkeypatch):
    problem = Problem(0, n_items=2000, dim=1, seen=0.0)
    order = np.argsort(-problem.scores[0], kind="stable")
    problem.category[:] = 0
    problem.category[order[-3:]] = 1
    compiled = problem.compile(5, caps={"A": 2})
    for limit in (0, 10**9):
        monkeypatch.setattr(indexes, "WORTH_AN_INDEX", limit)
        frame = problem.lists(rules=compiled)
        assert problem.items(frame) == expected_lists(problem, compiled, {"A": 2}, 5)
        first = frame.filter(pl.col("user_id") == "u0")
        assert first["rule_flags"].to_list()[2] == ["after_cap:A"]


@pytest.mark.parametrize(("group", "limit"), [("SearchedGroup", 0), ("ScoredGroup", 10**9)])
def test_caps_that_leave_most_out_ask_for_few_candidates(monkeypatch, group, limit):
    problem = Problem(2, n_users=40, n_items=5000, seen=0.0)
    problem.category = problem.rng.choice(4, problem.n_items, p=[0.6, 0.39, 0.008, 0.002])
    caps = {"A": 1, "B": 2, "C": 1, "D": 3}
    compiled = problem.compile(10, caps=caps)
    monkeypatch.setattr(indexes, "WORTH_AN_INDEX", limit)
    asked, best = [], getattr(pools, group).best

    def counted(self, depth, rows=None, only=None):
        found = best(self, depth, rows, only)
        asked.append(found.items.size)
        return found

    monkeypatch.setattr(getattr(pools, group), "best", counted)
    frame = problem.lists(k=10, rules=compiled)
    assert problem.items(frame) == expected_lists(problem, compiled, caps, 10)
    note = "short: 7 of 10, caps leave out all others"
    assert note in set(frame["rule_flags"].list.last())
    # At most once more for each cap.
    assert sum(asked) <= problem.n_users * (3 * 10 + len(caps) * 2 * 10)


def test_a_quota_brings_the_best_of_its_category(monkeypatch):
    problem = Problem(1, n_items=3000, dim=1, seen=0.0)
    problem.category[:] = 0
    problem.category[[7, 1500]] = 2
    compiled = problem.compile(4, quotas={"C": 1})
    for limit in (0, 10**9):
        monkeypatch.setattr(indexes, "WORTH_AN_INDEX", limit)
        frame = problem.lists(k=4, rules=compiled)
        for user, items in enumerate(problem.items(frame)):
            best = max([7, 1500], key=lambda item, user=user: (problem.scores[user, item], -item))
            assert best in items
            plain = expected_lists(problem, compiled, {}, 4)[user]
            assert [item for item in items if item != best] == [i for i in plain if i != best][:3]


def test_shards_and_the_whole_audience_get_the_same_lists():
    problem = Problem(3)
    rows = [{"rule": "pin", "item_id": "i0005", "user_id": "u4", "position": 2}]
    compiled = problem.compile(5, rows, caps={"A": 1})
    settings = ListSettings(k=5, rules=compiled)
    whole = problem.lists(rules=compiled)
    parts = [
        pl.concat(
            rank(
                problem.learner,
                problem.catalogue,
                problem.audience.part(start, stop),
                settings.part(start, stop),
            )
        )
        for start, stop in ((0, 1), (1, 4), (4, 6))
    ]
    assert pl.concat(parts).equals(whole)


def space(problem, vectors=None):
    vectors = problem.rng.standard_normal((problem.n_items, 4)) if vectors is None else vectors
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    kinds = (problem.category[:, None] == np.arange(4)).astype(np.float32)
    return ItemSpace(vectors, kinds, ("A", "B", "C", "D"), np.full(problem.n_items, 0.1))


def test_rerankings_choose_among_the_pool_and_say_who_moved_up():
    problem = Problem(5, n_items=60)
    config = DiversityConfig(method="mmr", strength=0.8, pool=20)
    diversity = Diversity(config, space(problem), seed=1)
    plain, frame = problem.lists(), problem.lists(diversity=diversity)
    assert problem.items(frame) != problem.items(plain)
    pool = problem.items(problem.lists(k=20))
    for user, items in enumerate(problem.items(frame)):
        assert set(items) <= set(pool[user])
        flags = frame.filter(pl.col("user_id") == f"u{user}")["rule_flags"].to_list()
        for place, (item, flag) in enumerate(zip(items, flags, strict=True)):
            moved = pool[user].index(item) > place
            assert flag == (["moved_up:mmr"] if moved else [])
    again = problem.lists(diversity=diversity, tile_users=1)
    assert again.equals(frame)
    off = Diversity(config.changed({"strength": 0.0}), space(problem), seed=1)
    assert problem.lists(diversity=off).equals(plain)


def test_calibrated_lists_are_of_what_was_liked():
    problem = Problem(8, n_users=20, n_items=60)
    matrix = problem.audience.histories
    stars = np.where(problem.category[matrix.items] == 0, 5.0, 1.0).astype(np.float32)
    problem.audience = replace(problem.audience, histories=replace(matrix, values=stars))
    config = DiversityConfig(method="calibrated", strength=1.0, pool=40)

    def shares(liked_from):
        diversity = Diversity(config, space(problem), seed=1, liked_from=liked_from)
        lists = problem.items(problem.lists(diversity=diversity))
        return np.array([(problem.category[items] == 0).mean() for items in lists])

    liking = [bool((problem.category[list(seen)] == 0).any()) for seen in problem.seen]
    assert all(shares(4.0)[liking] == 1.0)
    assert shares(None)[liking].mean() < 0.5


def test_rules_hold_for_lists_that_are_re_ranked():
    problem = Problem(6, n_items=60)
    rows = [
        {"rule": "deny", "item_id": "i0003"},
        {"rule": "pin", "item_id": "i0009", "position": 1},
    ]
    compiled = problem.compile(5, rows, caps={"B": 1})
    config = DiversityConfig(method="xquad", strength=0.9, pool=10)
    frame = problem.lists(rules=compiled, diversity=Diversity(config, space(problem), seed=1))
    for user, items in enumerate(problem.items(frame)):
        assert len(items) == 5
        assert 3 not in items
        assert not set(items) & problem.seen[user]
        assert sum(problem.category[item] == 1 for item in items) <= 1
        if 9 not in problem.seen[user]:
            assert items[0] == 9


def test_what_re_ranking_moved_is_told_beside_what_rules_did():
    problem = Problem(5, n_items=60)
    config = DiversityConfig(method="mmr", strength=0.8, pool=20)
    diversity = Diversity(config, space(problem), seed=1)
    pool = problem.items(problem.lists(k=20))
    ranked = problem.items(problem.lists(k=20, diversity=diversity))
    rows = [{"rule": "pin", "item_id": f"i{pool[0][19]:04d}", "position": 1, "user_id": "u0"}]
    compiled = problem.compile(5, rows, caps={"A": 1})
    frame = problem.lists(rules=compiled, diversity=diversity)
    told = set()
    for user, items in enumerate(problem.items(frame)):
        flags = frame.filter(pl.col("user_id") == f"u{user}")["rule_flags"].to_list()
        for item, flag in zip(items, flags, strict=True):
            moved = pool[user].index(item) > ranked[user].index(item) and flag != ["pinned"]
            assert flag[:1] == ["moved_up:mmr"] if moved else "moved_up:mmr" not in flag
            told.add(tuple(flag))
    assert {("pinned",), ("moved_up:mmr",), ("moved_up:mmr", "after_cap:A")} <= told


def test_the_probability_of_relevance_is_the_calibrations():
    problem = Problem(7)
    line = Affine(shift=(0.2,) * len(KNOTS), slope=(0.7,) * len(KNOTS))
    calibration = RelevanceCalibration(
        basis=Basis.VALUE, threshold=0.5, low=-3.0, high=3.0, curve=line, users=9, pairs=99
    )
    frame = problem.lists(relevance=calibration)
    by_hand = calibration.p_relevant(
        mean=frame["rating"].to_numpy()[:, None],
        variance=frame["sd"].to_numpy()[:, None] ** 2,
        scores=frame["score"].to_numpy()[:, None],
        support_sizes=frame["support_size"].to_numpy(),
    )
    assert frame["p_relevant"].to_list() == by_hand[:, 0].tolist()
    assert problem.lists()["p_relevant"].null_count() == len(frame)


def test_why_a_list_is_short():
    problem = Problem(8, n_items=4, seen=0.0)
    assert problem.lists()["rule_flags"].to_list()[3] == ["short: only 4 open items"]
    allow = [{"rule": "allow", "item_id": "i0002", "user_id": "u1"}]
    frame = problem.lists(rules=problem.compile(5, allow))
    own = frame.filter(pl.col("user_id") == "u1")
    assert own["rule_flags"].to_list() == [["short: only 1 open item"]]


def test_rules_and_exclusions_together_are_refused():
    problem = Problem(9)
    compiled = problem.compile(5)
    with pytest.raises(ConfigError, match="deny the items in the rules table"):
        problem.lists(rules=compiled, exclude=np.array([1]))


def test_numbers_that_are_none_never_become_a_list(monkeypatch):
    from metarec_core.errors import ModelError

    for limit in (0, 10**9):
        monkeypatch.setattr(indexes, "WORTH_AN_INDEX", limit)
        problem = Problem(10)
        problem.learner.vectors[3, 0] = torch.nan
        with pytest.raises(ModelError, match="NaN or infinite"):
            problem.lists()
