"""Re-ranking for diversity: users per second a core, and what diversity costs on ML-100K.

Speed: every method on pools of 200 candidates with vectors of 64 dimensions, lists of 20, on one
core, against the same method written in NumPy one user at a time, in
``benchmarks/_diversity_numpy.py``; lists are checked to be the same. Figures are by the processor
time of the quickest of some runs, beside the clock's: other processes take their share of a
machine.

Cost: learners are trained on ML-100K; on the validation users accuracy and diversity of every
method are measured at every strength, and a strength is chosen that loses at most 1 % NDCG@10
(preset ``gentle``). What that strength does is then measured on the test users, who chose nothing.

    metarec data fetch ml-100k
    python -m benchmarks.diversity [--json] [--seed 7] [--part speed|frontier]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from threadpoolctl import threadpool_limits

from benchmarks._diversity_numpy import REFERENCES, Reference
from metarec_core.cleaning.clean import clean_tables
from metarec_core.config import Config
from metarec_core.episodes.sampling import evaluation_episodes
from metarec_core.episodes.split import Split
from metarec_core.episodes.store import Tasks, build_episodes, load_tasks
from metarec_core.errors import DatasetError
from metarec_core.features.build import build_features
from metarec_core.home import Home
from metarec_core.ingest.descriptor import DatasetDescriptor, load_descriptor
from metarec_core.ingest.locate import locate
from metarec_core.ingest.read import ingest_tables
from metarec_core.learners.base import FitContext, Learner
from metarec_core.learners.registry import learner_class
from metarec_core.ranking.diversity.categories import Categories
from metarec_core.ranking.diversity.frontier import ACCURACY, choose_strength, frontier
from metarec_core.ranking.diversity.judged import JudgedPool, judged_pools
from metarec_core.ranking.diversity.pool import Pool
from metarec_core.ranking.diversity.registry import METHODS
from metarec_core.ranking.diversity.rerank import rerank
from metarec_core.ranking.diversity.settings import DiversityConfig
from metarec_core.ranking.diversity.space import ItemSpace, item_space, relevant_share
from metarec_core.ranking.diversity.taste import liked_from
from metarec_core.schema import Table

CPU = torch.device("cpu")
N_ITEMS, N_CATEGORIES, HISTORY = 20_000, 18, 40
STRENGTH = 0.5
WANTED = {"dpp": 8_000.0, "mmr": 15_000.0}
LEARNERS = ("gaussian", "ease")
SUPPORT_SIZES = (5, 20)
SHOWN = ("ndcg_at_10", "intra_list_diversity", "category_coverage", "novelty", "catalogue_coverage")
UNLIKE = 1e-3
"""Share of lists that may differ from the reference's: float32 cosines tie where float64 do not."""


def made_up(n_users: int, width: int, dim: int, seed: int) -> tuple[Pool, ItemSpace]:
    """Pools as a factor model makes them: the best by inner product, with a posterior each."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(60, dim))
    vectors = centres[rng.integers(0, 60, N_ITEMS)] + rng.normal(size=(N_ITEMS, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    categories = rng.random((N_ITEMS, N_CATEGORIES)) < 2.0 / N_CATEGORIES
    shares = categories / np.maximum(categories.sum(axis=1, keepdims=True), 1)
    appeal = rng.permutation(1.0 / np.arange(1, N_ITEMS + 1) ** 0.7)
    space = ItemSpace(
        vectors.astype(np.float32),
        shares.astype(np.float32),
        tuple(f"category {column}" for column in range(N_CATEGORIES)),
        appeal,
    )
    scores = rng.normal(size=(n_users, dim)) @ vectors.T + 0.3 * np.log(appeal)
    items = np.sort(np.argpartition(-scores, width, axis=1)[:, :width], axis=1)
    scores = np.take_along_axis(scores, items, axis=1)
    best = np.argsort(-scores, axis=1, kind="stable")
    items, scores = (
        np.take_along_axis(items, best, axis=1),
        np.take_along_axis(scores, best, axis=1),
    )
    spread = rng.uniform(0.1, 0.5, size=(n_users, 1, 1))
    covariance = spread**2 * (vectors[items] @ vectors[items].transpose(0, 2, 1))
    pool = Pool(
        items=items,
        scores=scores,
        history=rng.integers(0, N_ITEMS, (n_users, HISTORY)),
        history_mask=np.ones((n_users, HISTORY), dtype=np.bool_),
        covariance=covariance,
        users=np.arange(n_users),
    )
    return pool, space


def time_methods(
    *, n_users: int, width: int, k: int, dim: int, repeats: int, seed: int
) -> Iterator[dict[str, Any]]:
    """One row a method; refuses figures of unlike lists."""
    pool, space = made_up(n_users, width, dim, seed)
    few = range(min(n_users, 48))
    for method in METHODS:
        settings = DiversityConfig(method=method, strength=STRENGTH)
        found = rerank(pool, space, settings, k, seed=seed)
        reference = REFERENCES[method]
        expected = each(reference, pool, space, few, k)
        same = float(np.mean([found[row].tolist() == expected[row] for row in few]))
        if method != "sample" and same < 1.0 - UNLIKE:
            raise SystemExit(f"{method}: {same:.1%} of the lists are those of the reference")
        wall, processor = quickest(partial(rerank, pool, space, settings, k, seed=seed), repeats)
        _, plain = quickest(partial(each, reference, pool, space, few, k), max(1, repeats // 2))
        yield {
            "part": "speed",
            "method": method,
            "users_per_second": n_users / processor,
            "users_per_second_by_clock": n_users / wall,
            "ratio_to_numpy": (plain / len(few)) / (processor / n_users),
            # Draws are each side's own.
            "agreement": None if method == "sample" else same,
            "wanted": WANTED.get(method),
            "pool": width,
            "k": k,
            "dim": dim,
            "users": n_users,
        }


def each(
    reference: Reference, pool: Pool, space: ItemSpace, rows: Iterable[int], k: int
) -> list[list[int]]:
    """The reference's lists, one user after the other."""
    return [reference(pool, space, row, STRENGTH, k) for row in rows]


def quickest(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Seconds of the quickest run by the clock, and by processor time."""
    seconds = []
    for _ in range(repeats):
        started, used = time.perf_counter(), time.process_time()
        run()
        seconds.append((time.perf_counter() - started, time.process_time() - used))
    clock, processor = zip(*seconds, strict=True)
    return max(min(clock), 1e-9), max(min(processor), 1e-9)


def prepared(descriptor: DatasetDescriptor, config: Config) -> tuple[Tasks, Categories]:
    """Tasks and categories of a dataset, as a night makes them."""
    root = locate(descriptor, config.dataset, Home.from_environment())
    with tempfile.TemporaryDirectory() as scratch:
        raw, clean, features, episodes = (
            Path(scratch, name) for name in ("raw", "clean", "features", "episodes")
        )
        for place in (raw, clean, features, episodes):
            place.mkdir()
        ingest_tables(descriptor, root, raw, validation=config.validation, cleaning=config.cleaning)
        clean_tables(raw, clean, descriptor=descriptor, config=config.cleaning)
        build_features(
            clean, features, descriptor=descriptor, config=config.episodes, seed=config.seed
        )
        build_episodes(clean, features, episodes, scale=descriptor.scale(), config=config.episodes)
        items = pl.read_parquet(features / f"{Table.ITEMS}.parquet")
        return load_tasks(episodes, features), Categories.of(
            items, descriptor.features(Table.ITEMS)
        )


def measure_cost(dataset: str, *, epochs: int, pool: int, seed: int) -> Iterator[dict[str, Any]]:
    """Frontier of each learner on validation users, and the gentle strengths on test users."""
    config = Config(seed=seed)
    tasks, categories = prepared(load_descriptor(dataset), config)
    train = tasks.part(Split.TRAIN)
    share = relevant_share(train.interactions, train.scale, train.n_items)
    for name in LEARNERS:
        learner = trained(name, tasks, config, epochs)
        space = item_space(
            learner, share, categories=categories, item_features=tasks.data.item_features
        )
        about = {"dataset": Path(dataset).stem, "learner": name}
        validation, test = (
            partial(pools_of, learner, tasks, split, pool, config)
            for split in (Split.VALIDATION, Split.TEST)
        )
        figures = frontier(validation(), space, seed=seed)
        for row in figures.iter_rows(named=True):
            yield {"part": "frontier", **about, "users": "validation", **row}
        for method in [known for known in METHODS if known in set(figures["method"])]:
            strength = choose_strength(figures, method)
            judged = frontier(test(), space, methods=[method], strengths=[strength], seed=seed)
            plain = dict(judged.filter(method="none").select("metric", "value").iter_rows())
            own = judged.filter(method=method, strength=strength)
            for metric, value in own.select("metric", "value").iter_rows():
                yield {
                    "part": "gentle",
                    **about,
                    "users": "test",
                    "method": method,
                    "strength": strength,
                    "metric": metric,
                    "value": value,
                    "without": plain[metric],
                }


def pools_of(
    learner: Learner, tasks: Tasks, split: Split, pool: int, config: Config
) -> Iterator[JudgedPool]:
    """Candidates of a part of the users, who are known by a few of their interactions."""
    judged = evaluation_episodes(
        tasks.data,
        tasks.users(split),
        support_sizes=SUPPORT_SIZES,
        max_query=config.episodes.max_query,
        seed=config.seed,
        rank_reserved=False,
    )
    least = liked_from(tasks.data.scale)
    return judged_pools(learner, judged, size=pool, device=CPU, liked_from=least)


def trained(name: str, tasks: Tasks, config: Config, epochs: int) -> Learner:
    """A learner with its own settings, and so many epochs where it has any."""
    settings = getattr(config.learners, name)
    if hasattr(settings, "loop"):
        settings = settings.changed({"loop": {"epochs": epochs}})
    learner = learner_class(name)(settings)
    context = FitContext(
        seed=config.seed,
        device=CPU,
        max_support=config.episodes.max_support,
        max_query=config.episodes.max_query,
    )
    learner.fit(tasks.part(Split.TRAIN), tasks.part(Split.VALIDATION), context)
    return learner


def show_speed(rows: list[dict[str, Any]]) -> None:
    """A line a method."""
    print(
        f"{'method':14} {'users/s a core':>15} {'by the clock':>13} {'times NumPy':>12} {'bar':>7}"
    )
    for row in rows:
        bar = "-" if row["wanted"] is None else f"{row['wanted']:.0f}"
        print(
            f"{row['method']:14} {row['users_per_second']:15.0f} "
            f"{row['users_per_second_by_clock']:13.0f} {row['ratio_to_numpy']:12.1f} {bar:>7}"
        )


def show_cost(rows: list[dict[str, Any]]) -> None:
    """A line a learner and method: what the gentle strength does on test users."""
    print(f"{'learner':9} {'method':14} {'strength':>8} " + " ".join(f"{n:>20}" for n in SHOWN))
    gentle = [row for row in rows if row["part"] == "gentle"]
    for row in gentle:
        if row["metric"] != ACCURACY:
            continue
        same = {
            other["metric"]: other
            for other in gentle
            if (other["learner"], other["method"]) == (row["learner"], row["method"])
        }
        cells = [f"{same[n]['without']:.3f} -> {same[n]['value']:.3f}" for n in SHOWN]
        print(
            f"{row['learner']:9} {row['method']:14} {row['strength']:8.2f} "
            + " ".join(f"{cell:>20}" for cell in cells)
        )


def main(arguments: list[str] | None = None) -> None:
    """Print the tables, or with ``--json`` one JSON object as the last line as well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--part", choices=["both", "speed", "frontier"], default="both")
    parser.add_argument("--users", type=int, default=512, help="users of the speed part")
    parser.add_argument("--pool", type=int, default=200, help="candidates of each user")
    parser.add_argument("--k", type=int, default=20, help="length of a list")
    parser.add_argument("--dim", type=int, default=64, help="dimensions of item vectors")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--dataset", default="ml-100k", help="name or path of a descriptor")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of a learner that has any")
    options = parser.parse_args(arguments)

    started = time.perf_counter()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    try:
        with threadpool_limits(1):
            if options.part != "frontier":
                rows += time_methods(
                    n_users=options.users,
                    width=options.pool,
                    k=options.k,
                    dim=options.dim,
                    repeats=options.repeats,
                    seed=options.seed,
                )
                show_speed(rows)
            if options.part != "speed":
                rows += cost_or_why_not(options)
    finally:
        torch.set_num_threads(before)
    print(f"seed {options.seed}, one thread, {time.perf_counter() - started:.0f} s")
    if options.json:
        print(json.dumps({"benchmark": "diversity", "seed": options.seed, "rows": rows}))


def cost_or_why_not(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of the cost; none, and a line that says why, where the dataset is not there."""
    try:
        rows = list(
            measure_cost(
                options.dataset, epochs=options.epochs, pool=options.pool, seed=options.seed
            )
        )
    except DatasetError as error:
        print(f"no frontier: {error}")
        return []
    show_cost(rows)
    return rows


if __name__ == "__main__":
    main()
