"""P1: ratings of cold users and cold items in MovieLens 1M, as MeLU poses them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from metarec_core.config import BenchmarkConfig
from metarec_core.episodes.fixed import FixedTasks, stacked
from metarec_core.evaluation.protocols.corpus import STATE, Corpus, Universe, require_states
from metarec_core.evaluation.protocols.references import ItemMean, Random
from metarec_core.evaluation.protocols.study import (
    State,
    Study,
    fixed_tasks,
    held_out_by_hash,
    ids,
    of_users,
    shuffled,
)

FEWEST, MOST, QUERY = 13, 100, 10
STATES = ("user_cold", "item_cold", "user_and_item_cold", "warm")
REGIMES = ("all_warm", "same_tasks")
HALF_A_STAR_BELOW_FOUR = 3.5
MEASURES = (
    "mae",
    "mse",
    "graded_ndcg_at_1",
    "graded_ndcg_at_3",
    "graded_ndcg_at_5",
    "nll",
    "coverage_50",
    "coverage_90",
)


def studies(corpus: Corpus, config: BenchmarkConfig) -> Iterator[Study]:
    """Two studies a seed: trained on all ratings of ``warm``, and on the same users' tasks alone.

    In each state users with 13 to 100 ratings are asked for the last 10 of a shuffle, the rest is
    the support. One fit serves all states and shuffles: the queries of ``warm`` are those of one
    shuffle a seed, and no fit of that seed sees them. A tenth of the warm users, by hash, chooses;
    the learner is then fitted again on all of them with the choice made. What chooses are their
    training ratings, never a query. States of the second regime are called ``...@same_tasks``.

    Raises:
        DatasetError: If the set has no published states.
    """
    require_states(corpus)
    rows = corpus.interactions.filter(pl.col(STATE).is_not_null())
    for seed in config.seeds:
        asked = eligible(rows.filter(pl.col(STATE) == "warm"))
        warm = shuffled(asked, np.random.default_rng([seed, 0]))
        query = warm.filter(pl.col("rank") >= pl.col("size") - QUERY)
        learn = rows.filter(pl.col(STATE) == "warm").join(
            query, on=["user", "item"], how="anti", maintain_order="left"
        )
        universe = Universe.of(corpus, rows["item"].to_numpy(), learn, seed)
        tasks = {name: rating_tasks(universe, rows, name, config, seed) for name in STATES[:3]}
        tasks["warm"] = _tasks(universe, warm, seed)
        for regime in REGIMES:
            pool = learn
            if regime == "same_tasks":
                pool = learn.filter(of_users(asked["user"]))
            held, train = held_out_by_hash(corpus, pool)
            suffix = "" if regime == "all_warm" else f"@{regime}"
            yield Study(
                name=f"{regime}, seed {seed}",
                seed=seed,
                train=universe.task_data(train),
                validation=universe.task_data(held),
                refit=universe.task_data(pool),
                states=tuple(
                    State(
                        f"{name}{suffix}",
                        {None: made},
                        MEASURES,
                        threshold=HALF_A_STAR_BELOW_FOUR,
                        by_band=True,
                    )
                    for name, made in tasks.items()
                ),
                references=(Random(seed), ItemMean()),
                user_ids={
                    "validation": ids(universe, held["user"].unique().sort().to_numpy()),
                    **{name: ids(universe, np.unique(made.users)) for name, made in tasks.items()},
                },
                facts={"training_ratings": len(pool), "training_users": pool["user"].n_unique()},
            )


def eligible(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of users with 13 to 100 of them."""
    return rows.filter(pl.len().over("user").is_between(FEWEST, MOST))


def rating_tasks(
    universe: Universe, rows: pl.DataFrame, state: str, config: BenchmarkConfig, seed: int
) -> FixedTasks:
    """Tasks of a state: every eligible user once a shuffle.

    Args:
        universe: Catalogue and features.
        rows: Interactions with their state.
        state: Which to take.
        config: How many shuffles.
        seed: Seed of the shuffles.
    """
    asked = eligible(rows.filter(pl.col(STATE) == state))
    return stacked(
        [
            _tasks(universe, shuffled(asked, np.random.default_rng([seed, shuffle])), seed)
            for shuffle in range(config.shuffles)
        ]
    )


def _tasks(universe: Universe, asked: pl.DataFrame, seed: int) -> FixedTasks:
    is_query = pl.col("rank") >= pl.col("size") - QUERY
    return fixed_tasks(
        universe,
        asked["user"].unique().sort().to_numpy(),
        asked.filter(~is_query),
        asked.filter(is_query),
        among_query=True,
        tie_seed=seed,
    )
