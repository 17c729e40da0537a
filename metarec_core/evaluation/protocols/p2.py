"""P2: lists of cold users over the full catalogue of MovieLens 1M."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from metarec_core.config import BenchmarkConfig
from metarec_core.episodes.fixed import FixedTasks
from metarec_core.evaluation.protocols.corpus import STATE, Corpus, Universe, require_states
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

SIZES = (0, 1, 2, 5, 10, 20)
RESERVED = 20
MIN_POSITIVES = 30
POSITIVE_FROM = 4
_MEASURES = ("ndcg_at_10", "recall_at_20")


def studies(corpus: Corpus, config: BenchmarkConfig) -> Iterator[Study]:
    """One study a seed.

    Training users are those of ``warm``, with their ``warm`` rows. Users of ``user_cold`` with at
    least 30 positives (ratings >= 4) on items seen in training are asked: in ascending id, every
    third from the first chooses, the others judge. A user's positives are shuffled; the first 20
    are reserved, the support is the first k of them, the targets are all after the 20th, and every
    training item but the reserved 20 is ranked.

    Raises:
        DatasetError: If the set has no published states.
    """
    require_states(corpus)
    rows = corpus.interactions
    train = rows.filter(pl.col(STATE) == "warm")
    for seed in config.seeds:
        universe = Universe.of(corpus, train["item"].to_numpy(), train, seed)
        positives = universe.within(
            rows.filter(pl.col(STATE) == "user_cold", pl.col(Columns.VALUE) >= POSITIVE_FROM)
        ).filter(pl.len().over("user") >= MIN_POSITIVES)
        users = np.unique(positives["user"].to_numpy())
        validation, test = users[::3], np.delete(users, np.s_[::3])
        asked = shuffled(positives.filter(of_users(test)), np.random.default_rng(seed))
        reserved = asked.filter(pl.col("rank") < RESERVED)
        query = asked.filter(pl.col("rank") >= RESERVED)
        tasks: dict[int | None, FixedTasks] = {
            k: fixed_tasks(
                universe, test, reserved.filter(pl.col("rank") < k), query, excluded=reserved
            )
            for k in SIZES
        }
        yield Study(
            name=f"seed {seed}",
            seed=seed,
            train=universe.task_data(train),
            validation=universe.task_data(positives.filter(of_users(validation))),
            refit=None,
            states=(State("user_cold", tasks, _MEASURES),),
            references=(Random(seed), ItemMean()),
            user_ids={"user_cold": ids(universe, test), "validation": ids(universe, validation)},
            facts={"training_users": train["user"].n_unique(), "items": universe.n_items},
        )
