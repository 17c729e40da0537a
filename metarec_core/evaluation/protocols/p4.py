"""P4: the future: train before a moment, rank what comes after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl

from metarec_core.config import BenchmarkConfig
from metarec_core.episodes.fixed import FixedTasks
from metarec_core.episodes.types import FloatArray
from metarec_core.evaluation.protocols.corpus import Corpus, Universe
from metarec_core.evaluation.protocols.references import GivenCounts, ItemMean, Random
from metarec_core.evaluation.protocols.study import State, Study, fixed_tasks, ids, of_users, ranked
from metarec_core.schema import Columns

CUTS = (0.6, 0.7, 0.8, 0.9)
VALIDATION_FROM = 0.9
SIZES = (0, 1, 2, 5, 10, 20)
RECENT_SECONDS = 30 * 86_400
_MEASURES = ("ndcg_at_10", "recall_at_20")


def studies(corpora: Mapping[str, Corpus], config: BenchmarkConfig) -> Iterator[Study]:
    """One study a dataset, cut and seed.

    Interactions before the cut, at a percentile of all times, are trained on; the last tenth of
    them chooses, and the learner is then fitted again on all. Users whose first interaction lies
    after the cut are cold: their first k interactions are the support, their later positives the
    targets. The others are warm: all their history is the support, positives after the cut are the
    targets. Only items seen in training are ranked, but those of the support. Figures pool the
    cuts; a user asked at several counts once, with the mean.

    Args:
        corpora: Datasets by name.
        config: Seeds.
    """
    for name, corpus in corpora.items():
        for cut in CUTS:
            for seed in config.seeds:
                yield _study(name, corpus, cut, seed)


def _study(name: str, corpus: Corpus, cut: float, seed: int) -> Study:
    time = pl.col(Columns.TIME)
    rows = corpus.interactions.sort("user", Columns.TIME, "item")
    moment = _quantile(rows, cut)
    past = rows.filter(time < moment)
    universe = Universe.of(corpus, past["item"].to_numpy(), past, seed)
    choosing = _quantile(past, VALIDATION_FROM)
    future = universe.within(rows.filter(time >= moment))
    is_warm = of_users(past["user"])
    threshold = corpus.descriptor.scale().relevant_from
    cold = ranked(future.filter(~is_warm))
    asked: dict[int | None, FixedTasks] = {
        k: _cold_tasks(universe, cold, k, threshold) for k in SIZES
    }
    targets = future.filter(is_warm, pl.col(Columns.VALUE) >= threshold)
    warm_users = targets["user"].unique().sort().to_numpy()
    warm = fixed_tasks(universe, warm_users, past.filter(of_users(warm_users)), targets)
    return Study(
        name=f"{name}, cut {cut:.0%}, seed {seed}",
        seed=seed,
        train=universe.task_data(past.filter(time < choosing), by_time=True),
        validation=universe.task_data(past.filter(time >= choosing), by_time=True),
        refit=universe.task_data(past, by_time=True),
        states=(
            State(f"{name}/cold", asked, _MEASURES),
            State(f"{name}/warm", {None: warm}, _MEASURES, by_band=True),
        ),
        references=(
            Random(seed),
            ItemMean(),
            GivenCounts(
                "recent_popularity", _recent(universe, past, moment - RECENT_SECONDS, threshold)
            ),
        ),
        user_ids={
            f"{name}/cold": ids(universe, asked[0].users),
            f"{name}/warm": ids(universe, warm_users),
        },
        facts={"moment": int(moment), "training_ratings": len(past), "items": universe.n_items},
    )


def _quantile(rows: pl.DataFrame, share: float) -> int:
    moment = rows[Columns.TIME].quantile(share, interpolation="lower")
    assert moment is not None, "P4 sets have times"
    return int(moment)


def _cold_tasks(universe: Universe, cold: pl.DataFrame, k: int, threshold: float) -> FixedTasks:
    later = cold.filter(pl.col("rank") >= k, pl.col(Columns.VALUE) >= threshold)
    users = later["user"].unique().sort().to_numpy()
    support = cold.filter(pl.col("rank") < k, of_users(users))
    return fixed_tasks(universe, users, support, later)


def _recent(universe: Universe, past: pl.DataFrame, since: int, threshold: float) -> FloatArray:
    recent = past.filter(pl.col(Columns.TIME) >= since, pl.col(Columns.VALUE) >= threshold)
    items = universe.position[recent["item"].to_numpy()]
    return np.bincount(items, minlength=universe.n_items).astype(np.float32)
