"""Five-fold accuracy on ML-100K: the Gaussian against bias (MAE) and popularity (NDCG@10).

Every one of the 943 users is judged once, by learners that never met that user: four fifths train
(an eighth of them chooses the epoch), one fifth judges. Same tasks for all learners; intervals are
paired bootstraps over users.

    metarec data fetch ml-100k
    python -m benchmarks.ml100k_folds [--json] [--seed 7] [--folds 5]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from metarec_core.cleaning.clean import clean_tables
from metarec_core.config import Config
from metarec_core.episodes.sampling import evaluation_episodes
from metarec_core.episodes.split import Split
from metarec_core.episodes.store import build_episodes, load_tasks
from metarec_core.evaluation import evaluate, paired_difference
from metarec_core.features.build import build_features
from metarec_core.home import Home
from metarec_core.ingest.descriptor import DatasetDescriptor, load_descriptor
from metarec_core.ingest.locate import locate
from metarec_core.ingest.read import ingest_tables
from metarec_core.learners.base import FitContext
from metarec_core.learners.registry import learner_class
from metarec_core.schema import Columns

SUPPORT_SIZES = (0, 1, 2, 5, 10, 20, 50)
LEARNERS = ("popularity", "bias", "gaussian")
CONTESTS = (("mae", "bias"), ("ndcg_at_10", "popularity"))
RESAMPLES = 10_000
CPU = torch.device("cpu")


def folds(n_users: int, n_folds: int, seed: int) -> Iterator[npt.NDArray[np.int8]]:
    """Split codes of each fold, ``[U]``."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(n_users)
    for judged in np.array_split(order, n_folds):
        codes = np.full(n_users, Split.TRAIN, dtype=np.int8)
        codes[judged] = Split.TEST
        others = rng.permutation(np.setdiff1d(order, judged))
        codes[others[: len(others) // 8]] = Split.VALIDATION
        yield codes


def judge_fold(
    clean: Path, codes: npt.NDArray[np.int8], descriptor: DatasetDescriptor, config: Config
) -> pl.DataFrame:
    """Per-task figures of every learner on the fold's test users."""
    with tempfile.TemporaryDirectory() as scratch:
        features, episodes = Path(scratch, "features"), Path(scratch, "episodes")
        features.mkdir()
        episodes.mkdir()
        build_features(
            clean,
            features,
            descriptor=descriptor,
            config=config.episodes,
            seed=config.seed,
            codes=codes,
        )
        build_episodes(clean, features, episodes, scale=descriptor.scale(), config=config.episodes)
        tasks = load_tasks(episodes, features)
    sampled = evaluation_episodes(
        tasks.data,
        tasks.users(Split.TEST),
        support_sizes=SUPPORT_SIZES,
        max_query=config.episodes.max_query,
        seed=config.seed,
        rank_reserved=False,
    )
    context = FitContext(
        seed=config.seed,
        device=CPU,
        max_support=config.episodes.max_support,
        max_query=config.episodes.max_query,
    )
    frames = []
    for name in LEARNERS:
        learner = learner_class(name)(getattr(config.learners, name))
        learner.fit(tasks.part(Split.TRAIN), tasks.part(Split.VALIDATION), context)
        frames.append(evaluate(learner, sampled, device=CPU, name=name))
    return pl.concat(frames)


def contests(figures: pl.DataFrame, seed: int) -> list[dict[str, Any]]:
    """The Gaussian minus its opponent, for each support size."""
    by_learner = {name: figures.filter(pl.col("learner") == name) for name in LEARNERS}
    rows = []
    for metric, opponent in CONTESTS:
        for size in SUPPORT_SIZES:
            result = paired_difference(
                by_learner["gaussian"],
                by_learner[opponent],
                metric,
                generator=np.random.default_rng(seed),
                resamples=RESAMPLES,
                confidence=0.95,
                support_size=size,
            )
            means = {
                name: by_learner[name].filter(pl.col(Columns.SUPPORT_SIZE) == size)[metric].mean()
                for name in ("gaussian", opponent)
            }
            rows.append(
                {
                    "dataset": "ml-100k",
                    "metric": metric,
                    "k": size,
                    "learner": "gaussian",
                    "value": means["gaussian"],
                    "opponent": opponent,
                    "opponent_value": means[opponent],
                    "difference": result.difference,
                    "diff_low": result.low,
                    "diff_high": result.high,
                    "users": result.n_users,
                }
            )
    return rows


def main() -> None:
    """Print the table, or with ``--json`` one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--folds", type=int, default=5)
    options = parser.parse_args()

    torch.set_num_threads(1)
    config = Config(seed=options.seed)
    descriptor = load_descriptor("ml-100k")
    root = locate(descriptor, config.dataset, Home.from_environment())
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        raw, clean = Path(scratch, "raw"), Path(scratch, "clean")
        raw.mkdir()
        clean.mkdir()
        ingest_tables(descriptor, root, raw, validation=config.validation, cleaning=config.cleaning)
        clean_tables(raw, clean, descriptor=descriptor, config=config.cleaning)
        n_users = pl.scan_parquet(clean / "users.parquet").select(pl.len()).collect().item()
        figures = pl.concat(
            judge_fold(clean, codes, descriptor, config)
            for codes in folds(n_users, options.folds, options.seed)
        )
    rows = contests(figures, options.seed)
    seconds = time.perf_counter() - started
    print(
        f"{'metric':11} {'k':>3} {'gaussian':>9} {'opponent':>20} {'difference':>11}  95% interval"
    )
    for row in rows:
        print(
            f"{row['metric']:11} {row['k']:3d} {row['value']:9.4f} "
            f"{row['opponent']:>12} {row['opponent_value']:.4f} {row['difference']:+11.4f}  "
            f"{row['diff_low']:+.4f} to {row['diff_high']:+.4f} ({row['users']} users)"
        )
    print(f"{options.folds} folds, seed {options.seed}, {seconds:.0f} s")
    if options.json:
        summary = {
            "benchmark": "ml100k_folds",
            "seed": options.seed,
            "folds": options.folds,
            "seconds": seconds,
            "settings": config.learners.model_dump(mode="json"),
            "rows": rows,
        }
        print(json.dumps(summary))


if __name__ == "__main__":
    main()
