"""P5: items that nobody met, ranked from their content alone, in MovieLens 1M."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from metarec_core.config import BenchmarkConfig
from metarec_core.evaluation.protocols import p1
from metarec_core.evaluation.protocols.corpus import STATE, Corpus, Universe, require_states
from metarec_core.evaluation.protocols.references import GenreCosine, ItemMean, Random
from metarec_core.evaluation.protocols.study import (
    State,
    Study,
    fixed_tasks,
    held_out_by_hash,
    ids,
    of_users,
)
from metarec_core.schema import Columns

POSITIVE_FROM = 4
_GENRES = "genres="


def studies(corpus: Corpus, config: BenchmarkConfig) -> Iterator[Study]:
    """One study a seed.

    Training: ``warm`` ratings of all warm users but a tenth by hash, who choose. Each other warm
    user with a positive (rating >= 4) among the items of ``item_cold``, which no training row has,
    is asked to rank those items alone, all warm positives being the support; equal scores stand in
    an order by chance. The state ``item_cold`` asks for the ratings of such items as P1 does.

    Raises:
        DatasetError: If the set has no published states.
    """
    require_states(corpus)
    rows = corpus.interactions.filter(pl.col(STATE).is_not_null())
    warm = rows.filter(pl.col(STATE) == "warm")
    cold = rows.filter(pl.col(STATE) == "item_cold")
    good = pl.col(Columns.VALUE) >= POSITIVE_FROM
    for seed in config.seeds:
        held, train = held_out_by_hash(corpus, warm)
        universe = Universe.of(corpus, rows["item"].to_numpy(), train, seed)
        trained = of_users(train["user"])
        targets = cold.filter(good, trained)
        users = targets["user"].unique().sort().to_numpy()
        lists = fixed_tasks(
            universe,
            users,
            warm.filter(good, of_users(users)),
            targets,
            candidates=cold["item"].unique().sort().to_numpy(),
            tie_seed=seed,
        )
        ratings = p1.rating_tasks(universe, cold.filter(trained), "item_cold", config, seed)
        genres = [
            place for place, name in enumerate(universe.item_names) if name.startswith(_GENRES)
        ]
        yield Study(
            name=f"seed {seed}",
            seed=seed,
            train=universe.task_data(train),
            validation=universe.task_data(held),
            refit=None,
            states=(
                State("cold_items", {None: lists}, ("ndcg_at_10", "recall_at_20"), by_band=True),
                State(
                    "item_cold",
                    {None: ratings},
                    p1.MEASURES,
                    threshold=p1.HALF_A_STAR_BELOW_FOUR,
                    by_band=True,
                ),
            ),
            references=(
                Random(seed),
                ItemMean(),
                GenreCosine(universe.item_features[:, genres]),
            ),
            user_ids={
                "cold_items": ids(universe, users),
                "item_cold": ids(universe, np.unique(ratings.users)),
                "validation": ids(universe, held["user"].unique().sort().to_numpy()),
            },
            facts={"cold_items": cold["item"].n_unique(), "training_ratings": len(train)},
        )
