"""A tell-tale is planted in the queries of every protocol; no learner's answers may change.

The whole way runs twice, from interactions to lists and forecasts: once as it is, once with every
value that is asked for (and for no task known) replaced. What is measured changes; what the
learners said does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from metarec_core.config import BenchmarkConfig
from metarec_core.evaluation.protocols import p1, p2, p3, p4, p5
from metarec_core.evaluation.protocols.corpus import STATE, Corpus
from metarec_core.evaluation.protocols.run import Results, run_studies
from metarec_core.evaluation.protocols.study import Study
from metarec_core.learners.registry import LEARNERS

CONFIG = BenchmarkConfig(shuffles=1, splits=1)
CPU = torch.device("cpu")


def two_moments(corpus: Corpus) -> Corpus:
    """The set with times over which users come and go."""
    rng = np.random.default_rng(0)
    late = pl.when(pl.col("user") % 3 == 1).then(10**6).otherwise(0)
    drawn = pl.Series(rng.integers(0, 10**6, len(corpus.interactions)))
    return replace(
        corpus, interactions=corpus.interactions.with_columns((drawn + late).alias("timestamp"))
    )


def last_cut(corpora: dict[str, Corpus], config: BenchmarkConfig) -> Iterator[Study]:
    yield list(p4.studies(corpora, config))[1]


@dataclass(frozen=True)
class Case:
    """A protocol on the small set.

    Attributes:
        studies: Its studies of a corpus.
        catalogue: Which rows name its catalogue.
        change: What becomes of the values that are asked for: positives stay positives where they
            define the query.
    """

    studies: Callable[[Corpus], Iterator[Study]]
    catalogue: Callable[[pl.DataFrame], pl.DataFrame]
    change: pl.Expr


WARM = pl.col(STATE) == "warm"
TURNED = 6.0 - pl.col("value")
SWAPPED = 9.0 - pl.col("value")
CASES = {
    "p1": Case(lambda c: p1.studies(c, CONFIG), lambda rows: rows, TURNED),
    "p2": Case(lambda c: p2.studies(c, CONFIG), lambda rows: rows.filter(WARM), SWAPPED),
    "p3": Case(lambda c: p3.studies({"s": c}, CONFIG), lambda rows: rows, TURNED),
    "p4": Case(
        lambda c: last_cut({"s": c}, CONFIG),
        lambda rows: rows.filter(pl.col("timestamp") < pl.col("timestamp").quantile(0.7, "lower")),
        SWAPPED,
    ),
    "p5": Case(lambda c: p5.studies(c, CONFIG), lambda rows: rows, SWAPPED),
}


def quick(settings: Any) -> Any:
    """Settings of a learner with two epochs wherever it counts them."""
    if not isinstance(settings, dict):
        return settings
    return {name: 2 if name == "epochs" else quick(value) for name, value in settings.items()}


def compare(study: Study) -> Results:
    # Two processes with two threads each slow one another tenfold.
    torch.set_num_threads(1)
    learners = {
        name: kind.Config.model_validate(quick(kind.Config().model_dump()))
        for name, kind in LEARNERS.items()
    }
    return run_studies([study], learners, device=CPU, max_support=8, max_query=8)


def planted(corpus: Corpus, study: Study, case: Case) -> Corpus:
    """The set with every value changed that some task asks for and none knows."""
    catalogue = np.unique(case.catalogue(corpus.interactions)["item"].to_numpy())
    asked: set[tuple[int, int]] = set()
    known: set[tuple[int, int]] = set()
    for state in study.states:
        for tasks in state.tasks.values():
            for matrix, pairs in ((tasks.query, asked), (tasks.support, known)):
                users = np.repeat(tasks.users, matrix.counts())
                pairs |= set(zip(users.tolist(), catalogue[matrix.items].tolist(), strict=True))
    told = asked - known
    assert told
    rows = corpus.interactions
    flags = [pair in told for pair in rows.select("user", "item").iter_rows()]
    changed = rows.with_columns(
        pl.when(pl.Series(flags)).then(case.change).otherwise("value").alias("value")
    )
    return replace(corpus, interactions=changed)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in CASES if name != "p2"]


@pytest.fixture(scope="module", params=["p2", *SLOW])
def twice(request: pytest.FixtureRequest, corpus: Corpus) -> tuple[Results, Results]:
    case = CASES[request.param]
    honest = two_moments(corpus)
    study = next(case.studies(honest))
    spoilt = next(case.studies(planted(honest, study, case)))
    for part in ("train", "validation", "refit"):
        one, other = getattr(study, part), getattr(spoilt, part)
        if one is None:
            continue
        assert np.array_equal(one.interactions.values, other.interactions.values)
        assert np.array_equal(one.item_features, other.item_features)
        assert np.array_equal(one.user_features, other.user_features)
    return compare(study), compare(spoilt)


def told(results: Results, learner: str) -> pl.DataFrame:
    """Everything that a learner answered."""
    frames = [frame for frame in results.frames if len(frame) and frame["learner"][0] == learner]
    columns = ("state", "k", "user", "support_size", "top_10", "probability")
    kept = [frame.select(name for name in columns if name in frame.columns) for frame in frames]
    return pl.concat(kept, how="diagonal_relaxed")


def test_the_tell_tale_is_planted(twice: tuple[Results, Results]) -> None:
    """A learner that looked would find it: the same answers are measured differently."""
    one, other = (pl.concat(r.frames, how="diagonal_relaxed") for r in twice)
    if "mae" in one.columns:
        assert not one["mae"].equals(other["mae"])


@pytest.mark.parametrize("learner", LEARNERS)
def test_no_learner_sees_it(twice: tuple[Results, Results], learner: str) -> None:
    assert [failure.learner for failure in twice[0].failures] == []
    one, other = (told(results, learner) for results in twice)
    assert len(one) > 0
    assert one.equals(other, null_equal=True)


def test_a_learner_that_looks_is_caught(corpus: Corpus) -> None:
    """The test itself is tested: one that reads the values of the whole set does not pass."""
    case = CASES["p1"]
    study = next(case.studies(corpus))
    spoilt = planted(corpus, study, case)

    class Peeping:
        name = "peeping"

        def __init__(self, seen: Corpus) -> None:
            rows = seen.interactions
            totals = np.bincount(rows["item"].to_numpy(), weights=rows["value"].to_numpy())
            self._mean = torch.from_numpy(totals / np.bincount(rows["item"].to_numpy()))

        def fit(self, train: Any) -> None:
            pass

        def adapt(self, support: Any) -> Any:
            from metarec_core.evaluation.protocols.references import RowPredictor

            row = self._mean.expand(len(support.items), -1)
            return RowPredictor(row, row)

    run = partial(run_studies, learners={}, device=CPU, max_support=8, max_query=8)
    honest, caught = (
        run([replace(study, references=(Peeping(seen),))]) for seen in (corpus, spoilt)
    )
    assert not told(honest, "peeping").equals(told(caught, "peeping"), null_equal=True)
