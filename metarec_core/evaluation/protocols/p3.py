"""P3: five of ten items, as the RecBole-MetaRec library poses it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from metarec_core.config import BenchmarkConfig
from metarec_core.evaluation.protocols.corpus import Corpus, Universe
from metarec_core.evaluation.protocols.references import ItemMean, Random
from metarec_core.evaluation.protocols.study import (
    State,
    Study,
    fixed_tasks,
    ids,
    of_users,
    shuffled,
)
from metarec_core.schema import Columns

FEWEST, MOST, QUERY, POSITIVES = 13, 100, 10, 5
MEASURES = ("precision_at_5", "ndcg_at_5", "mrr_at_5", "mae", "nll", "coverage_50", "coverage_90")


def studies(corpora: Mapping[str, Corpus], config: BenchmarkConfig) -> Iterator[Study]:
    """One study a dataset, seed and split.

    Users with 13 to 100 ratings are split 8:1:1; of each test user ten random ratings are the
    query, the rest the support. The five highest rated of the ten are the targets, ties in the
    order of the shuffled query, and the ten are ranked.

    Args:
        corpora: Datasets by the name of their state in tables.
        config: Seeds, and splits a seed.
    """
    for name, corpus in corpora.items():
        rows = corpus.interactions.filter(pl.len().over("user").is_between(FEWEST, MOST))
        for seed in config.seeds:
            for split in range(config.splits):
                yield _study(name, corpus, rows, seed, split)


def _study(name: str, corpus: Corpus, rows: pl.DataFrame, seed: int, split: int) -> Study:
    rng = np.random.default_rng([seed, split])
    users = rng.permutation(rows["user"].unique().sort().to_numpy())
    tenth = len(users) // 10
    test, validation = np.sort(users[:tenth]), np.sort(users[tenth : 2 * tenth])
    train = rows.filter(~of_users(np.concatenate([test, validation])))
    universe = Universe.of(corpus, corpus.interactions["item"].to_numpy(), train, seed)
    asked = shuffled(rows.filter(of_users(test)), rng)
    is_query = pl.col("rank") >= pl.col("size") - QUERY
    query = asked.filter(is_query)
    tasks = fixed_tasks(
        universe,
        test,
        asked.filter(~is_query),
        query,
        targets=best_rated(query),
        among_query=True,
        tie_seed=split,
    )
    return Study(
        name=f"{name}, seed {seed}, split {split + 1}",
        seed=seed,
        train=universe.task_data(train),
        validation=universe.task_data(rows.filter(of_users(validation))),
        refit=None,
        states=(State(name, {None: tasks}, MEASURES, by_band=True),),
        references=(Random(seed + split), ItemMean()),
        user_ids={name: ids(universe, test), "validation": ids(universe, validation)},
        facts={"training_ratings": len(train)},
    )


def best_rated(query: pl.DataFrame) -> npt.NDArray[np.bool_]:
    """Flags of each user's five highest rated rows, the earlier first of equals."""
    place = query.select((-pl.col(Columns.VALUE)).rank("ordinal").over("user").alias("place"))[
        "place"
    ]
    flags: npt.NDArray[np.bool_] = (place <= POSITIVES).to_numpy()
    return flags
