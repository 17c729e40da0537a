"""P1, P3, P4 and P5: who is asked what, and that no fit sees a query."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from metarec_core.config import BenchmarkConfig
from metarec_core.episodes.fixed import FixedTasks
from metarec_core.episodes.types import TaskData
from metarec_core.evaluation.protocols import p1, p3, p4, p5
from metarec_core.evaluation.protocols.corpus import STATE, Corpus
from metarec_core.evaluation.protocols.study import Study

CONFIG = BenchmarkConfig(shuffles=2, splits=2)
Pair = tuple[int, int]


def pairs(tasks: FixedTasks, part: str) -> list[set[Pair]]:
    """(user, catalogue item) of the support or the query of each task."""
    matrix = getattr(tasks, part)
    return [
        {
            (int(user), int(item))
            for item in matrix.items[matrix.indptr[row] : matrix.indptr[row + 1]]
        }
        for row, user in enumerate(tasks.users)
    ]


def learned(corpus: Corpus, rows: pl.DataFrame, data: TaskData) -> set[Pair]:
    """(user, catalogue item) of task data whose users are those of ``rows``."""
    users = rows["user"].unique().sort().to_numpy()
    assert data.n_users == len(users)
    owners = np.repeat(users, data.interactions.counts())
    return set(zip(owners.tolist(), data.interactions.items.tolist(), strict=True))


def states(study: Study) -> Iterator[tuple[str, FixedTasks]]:
    for state in study.states:
        for tasks in state.tasks.values():
            yield state.name, tasks


@pytest.fixture(scope="module")
def p1_studies(corpus: Corpus) -> list[Study]:
    return list(p1.studies(corpus, CONFIG))


def test_p1_asks_the_last_ten_of_each_shuffle(corpus: Corpus, p1_studies: list[Study]) -> None:
    assert [state.name for state in p1_studies[0].states] == list(p1.STATES)
    assert p1_studies[1].states[0].name == "user_cold@same_tasks"
    for state in p1_studies[0].states:
        (tasks,) = state.tasks.values()
        rows = p1.eligible(corpus.interactions.filter(pl.col(STATE) == state.name))
        n_users = rows["user"].n_unique()
        shuffles = 1 if state.name == "warm" else CONFIG.shuffles
        assert len(tasks) == shuffles * n_users
        counts = dict(rows.group_by("user").len().iter_rows())
        for user, support, query in zip(
            tasks.users, pairs(tasks, "support"), pairs(tasks, "query"), strict=True
        ):
            assert len(query) == 10
            assert len(support) == counts[int(user)] - 10
            assert not support & query
        if shuffles == 2:
            queries = pairs(tasks, "query")
            assert queries[:n_users] != queries[n_users:]


def test_p1_holds_the_queries_of_warm_users_out_of_every_fit(
    corpus: Corpus, p1_studies: list[Study]
) -> None:
    warm = corpus.interactions.filter(pl.col(STATE) == "warm")
    asked = set().union(*pairs(p1_studies[0].states[3].tasks[None], "query"))
    assert len(asked) == 10 * p1.eligible(warm)["user"].n_unique()
    for study in p1_studies:
        assert study.refit is not None
        refit = learned(corpus, warm, study.refit)
        assert not refit & asked
        assert len(refit) == len(warm) - len(asked)
        assert len(study.train.interactions.items) + len(study.validation.interactions.items) == (
            len(refit)
        )
        assert study.validation.n_users == len(study.user_ids["validation"])


def test_p1_states_share_items_only_with_what_they_say(p1_studies: list[Study]) -> None:
    study = p1_studies[0]
    assert study.refit is not None
    trained = set(study.refit.interactions.items.tolist())
    for name, tasks in states(study):
        items = set(tasks.query.items.tolist()) | set(tasks.support.items.tolist())
        assert bool(items & trained) is ("item" not in name)


def test_p3_targets_are_the_five_best_rated_first_of_equals() -> None:
    query = pl.DataFrame(
        {"user": [1] * 10 + [2] * 10, "value": [3.0] * 10 + [1, 5, 2, 5, 4, 4, 4, 3, 4, 5]}
    )
    flags = p3.best_rated(query).tolist()
    assert flags[:10] == [True] * 5 + [False] * 5
    # Three fives and the first two of four fours.
    assert [place for place, flag in enumerate(flags[10:]) if flag] == [1, 3, 4, 5, 9]


def test_p3_splits_users_eight_one_one(corpus: Corpus) -> None:
    studies = list(p3.studies({"small": corpus}, CONFIG))
    assert [study.name for study in studies] == [
        "small, seed 1, split 1",
        "small, seed 1, split 2",
    ]
    rows = corpus.interactions.filter(pl.len().over("user").is_between(13, 100))
    users = rows["user"].n_unique()
    for study in studies:
        test, validation = (set(study.user_ids[part]) for part in ("small", "validation"))
        assert len(test) == len(validation) == users // 10
        assert not test & validation
        assert study.train.n_users == users - 2 * (users // 10)
        ((_, tasks),) = states(study)
        assert tasks.query.counts().tolist() == [10] * len(test)
        flags = np.add.reduceat(tasks.targets, tasks.query.indptr[:-1])
        assert flags.tolist() == [5] * len(test)
        assert tasks.among_query
    assert studies[0].user_ids["small"] != studies[1].user_ids["small"]


def test_p4_learns_from_the_past_and_asks_for_the_future(corpus: Corpus) -> None:
    # A third of the users comes late.
    late = pl.when(pl.col("user") % 3 == 1).then(10**6).otherwise(0)
    rng = np.random.default_rng(0)
    rows = corpus.interactions.with_columns(
        (pl.Series(rng.integers(0, 10**6, len(corpus.interactions))) + late).alias("timestamp")
    )
    timed = replace(corpus, interactions=rows)
    studies = list(p4.studies({"small": timed}, CONFIG))
    assert len(studies) == len(p4.CUTS)
    study = studies[0]
    moment = study.facts["moment"]
    past = rows.filter(pl.col("timestamp") < moment)
    assert len(past) == pytest.approx(0.6 * len(rows), rel=0.01)
    assert study.refit is not None
    assert len(study.refit.interactions.items) == len(past)
    assert len(study.train.interactions.items) == pytest.approx(0.9 * len(past), rel=0.01)
    catalogue = past["item"].unique().sort().to_numpy()
    when = {(u, i): t for u, i, t in rows.select("user", "item", "timestamp").iter_rows()}
    cold, warm = study.states
    newcomers = set(rows["user"].unique()) - set(past["user"].unique())
    assert newcomers
    for k, tasks in cold.tasks.items():
        assert k is not None
        assert set(tasks.users.tolist()) <= newcomers
        for support, query in zip(pairs(tasks, "support"), pairs(tasks, "query"), strict=True):
            assert len(support) == k
            times = [when[user, int(catalogue[item])] for user, item in support]
            assert max(times, default=0) <= min(
                when[user, int(catalogue[item])] for user, item in query
            )
    tasks = warm.tasks[None]
    assert not set(tasks.users.tolist()) & newcomers
    for support, query in zip(pairs(tasks, "support"), pairs(tasks, "query"), strict=True):
        assert all(when[user, int(catalogue[item])] < moment for user, item in support)
        assert all(when[user, int(catalogue[item])] >= moment for user, item in query)


def test_p5_ranks_cold_items_alone(corpus: Corpus) -> None:
    (study,) = p5.studies(corpus, CONFIG)
    lists, ratings = study.states
    tasks = lists.tasks[None]
    trained = set(study.train.interactions.items.tolist())
    assert tasks.candidates is not None
    cold = set(tasks.candidates.tolist())
    assert not cold & trained
    assert set(tasks.query.items.tolist()) <= cold
    assert set(tasks.support.items.tolist()) <= trained
    assert (tasks.query.values >= 4).all()
    assert (tasks.support.values >= 4).all()
    assert tasks.tie_seed is not None
    chosen = set(study.user_ids["validation"])
    assert chosen
    assert not chosen & (set(study.user_ids["cold_items"]) | set(study.user_ids["item_cold"]))
    assert set(ratings.tasks[None].query.items.tolist()) <= cold
