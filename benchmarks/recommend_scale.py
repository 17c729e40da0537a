"""A million users by a hundred thousand items, to Parquet: time, memory, and what reasons add.

The model is a Bayesian regression on the factors of an iALS trained on ML-1M, its rows drawn with
replacement and multiplied by noise; every user has a history of up to twenty items, from which the
posterior is made tile by tile, and which the lists leave out. Lists go through the product's own
path (search, figures, shards). Three sizes show whether the time is linear in the users; the
largest is what counts. Memory is the most the process held above what it held once model and
histories were there, its prepared items, compiled loops and what an allocator keeps included. A run
that is killed keeps its finished shards under --out and goes on.

    python -m benchmarks.recommend_scale [--json] [--users 1000000] [--items 100000] [--workers 2]
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import resource
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Only here: where they are imported they read how many threads they may have.
    import numpy as np
    import polars as pl

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")
K = 20
DIM = 64
MOST_KNOWN = 20
MEMORY = "1GB"
SHARD_USERS = 20_000
EXPLAINED_USERS = 40_000


class Memory:
    """The most resident memory of this process while it is watched, in bytes."""

    def __init__(self) -> None:
        self.most = 0
        self._ended = threading.Event()

    def __enter__(self) -> Memory:
        self._watch = threading.Thread(target=self._run, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._watch.join()

    def _run(self) -> None:
        while not self._ended.wait(0.05):
            self.most = max(self.most, resident())


def resident() -> int:
    """Resident memory of this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def problem(root: Path, n_users: int, n_items: int, seed: int) -> tuple[Any, pl.DataFrame, Any]:
    """A learner, its catalogue, and an audience."""
    import numpy as np
    import polars as pl
    import torch

    from benchmarks import _factors as factors
    from metarec_core.learners.blr import Blr, BlrConfig, BlrTensors
    from metarec_core.ranking.request import Audience

    trained = factors.train(factors.movielens(root), DIM - 1)
    case = factors.upsampled(trained, 1, n_items, seed)
    vectors = torch.from_numpy(case.vectors).double()
    users = torch.from_numpy(trained.users).double()
    rng = np.random.default_rng(seed)
    # A preference is a row of the trained users; its spread is that of all of them.
    mean = torch.cat([users.mean(dim=0), torch.zeros(1, dtype=torch.float64)])
    spread = torch.eye(DIM, dtype=torch.float64) * 0.05
    spread[:-1, :-1] += torch.cov(users.T)
    bias = torch.from_numpy(rng.normal(0.0, 0.3, n_items))
    learner = Blr(BlrConfig(dim=DIM - 1))
    learner.learned = BlrTensors(
        mu=torch.tensor(3.5, dtype=torch.float64),
        unit=torch.tensor(1.1, dtype=torch.float64),
        items=torch.cat([vectors, bias[:, None]], dim=1),
        item_noise=torch.full((n_items,), 0.6, dtype=torch.float64),
        prior_mean=mean,
        prior_covariance=spread,
    )
    catalogue = pl.DataFrame(
        {
            "item_id": pl.Series([f"item-{item:06d}" for item in range(n_items)]),
            "title": pl.Series([f"Title {item}" for item in range(n_items)]),
        }
    )
    ids = pl.Series("user_id", [f"user-{user:07d}" for user in range(n_users)])
    audience = Audience(ids, _histories(n_users, n_items, rng), np.zeros((n_users, 0), np.float32))
    return learner, catalogue, audience


def _histories(n_users: int, n_items: int, rng: np.random.Generator) -> Any:
    import numpy as np

    from metarec_core.episodes.types import InteractionMatrix

    counts = rng.integers(1, MOST_KNOWN + 1, n_users)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    # Sorted and without repeats within a user: steps of at least one from a random start.
    most = max(2, n_items // MOST_KNOWN)
    steps = rng.integers(1, most, indptr[-1], dtype=np.int32)
    total = np.cumsum(steps, dtype=np.int64)
    rows = np.repeat(np.arange(n_users), counts)
    items = total - (total[indptr[:-1]] - steps[indptr[:-1]])[rows]
    values = rng.integers(1, 6, indptr[-1]).astype(np.float32)
    return InteractionMatrix(indptr, items - 1, values)


def write(
    out: Path,
    given: tuple[Any, pl.DataFrame, Any],
    n_users: int,
    *,
    workers: int,
    explained: bool = False,
    key: str = "",
) -> list[Any]:
    """Lists of the first users as shards; finished ones are kept."""
    from metarec_core.ranking.indexes import Indexes
    from metarec_core.ranking.lists import rank
    from metarec_core.ranking.memory import bytes_of, tile_users
    from metarec_core.ranking.request import ListSettings
    from metarec_core.ranking.shards import write_shards

    learner, catalogue, audience = given
    fitting = tile_users(bytes_of(MEMORY), learner, k=K, pool=K, reasons=3, workers=workers)
    settings = ListSettings(k=K, explained=explained, tile_users=fitting, indexes=Indexes(learner))

    def lists_of(start: int, stop: int) -> Iterator[pl.DataFrame]:
        return rank(learner, catalogue, audience.part(start, stop), settings)

    done = 0

    def say(fact: Any) -> None:
        nonlocal done
        done += fact.stop - fact.start
        state = "found" if fact.reused else "written"
        print(f"  {fact.path.name} {state}, {done:,} of {n_users:,} users", file=sys.stderr)

    shard_users = min(SHARD_USERS, -(-n_users // workers))
    return write_shards(out, n_users, shard_users, lists_of, key=key, workers=workers, progress=say)


def digest(shards: list[Any]) -> str:
    """One hash of all shards."""
    return hashlib.sha256("".join(fact.sha256 for fact in shards).encode()).hexdigest()[:16]


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print the table or one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, prog="python -m benchmarks.recommend_scale"
    )
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2, help="shards in progress at once")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--data", type=Path, default=None, help="folder of ML-1M")
    parser.add_argument("--out", type=Path, default=None, help="where shards stay")
    given = parser.parse_args(arguments)
    # Workers run side by side: each has one thread.
    for name in _THREADS:
        os.environ[name] = "1"
    import torch

    from benchmarks import _factors as factors

    torch.set_num_threads(1)
    root = given.data or factors.DATA
    parts = problem(root, given.users, given.items, given.seed)
    # What training left to the allocator is no part of the inputs, and would hide what lists take.
    ctypes.CDLL(None).malloc_trim(0)
    held = resident()
    out = given.out or Path(tempfile.mkdtemp(prefix="recommend-scale-"))
    # Compiles, and prepares nothing that is timed.
    write(out / "warm", parts, min(2048, given.users), workers=1)
    shutil.rmtree(out / "warm")
    sizes = [round(given.users * share) for share in (0.1, 0.3, 1.0)]
    rows = [_timed(out, parts, size, given, held) for size in sizes]
    rows += _explained(out, parts, given, held)
    if given.out is None:
        shutil.rmtree(out)
    for row in rows:
        print(json.dumps(row), file=sys.stderr if given.json else sys.stdout)
    if given.json:
        print(json.dumps({"benchmark": "recommend_scale", "rows": rows}))


def _timed(
    out: Path, parts: Any, n_users: int, given: argparse.Namespace, held: int
) -> dict[str, Any]:
    from metarec_core.storage import code_version

    key = f"{code_version()}-{given.seed}-{given.items}-{n_users}"
    with Memory() as memory:
        started = time.perf_counter()
        shards = write(out / f"lists-{n_users}", parts, n_users, workers=given.workers, key=key)
        seconds = time.perf_counter() - started
    found = sum(fact.reused for fact in shards)
    return {
        "case": f"{n_users} users x {given.items} items d={DIM} K={K}",
        "seconds": round(seconds, 1),
        "users_per_second": round(n_users / seconds),
        "peak_gib_over_inputs": round((memory.most - held) / (1 << 30), 3),
        "rows": sum(fact.rows for fact in shards),
        "shards": len(shards),
        "shards_found": found,
        "digest": digest(shards),
        "reasons": False,
        "added_by_reasons": None,
    }


def _explained(out: Path, parts: Any, given: argparse.Namespace, held: int) -> list[dict[str, Any]]:
    """The same users without and with reasons, in turns; the best of three rounds each."""
    n_users = min(EXPLAINED_USERS, given.users)
    best = {False: float("inf"), True: float("inf")}
    most = 0
    for _ in range(3):
        for explained in (False, True):
            place = out / "explained"
            shutil.rmtree(place, ignore_errors=True)
            with Memory() as memory:
                started = time.perf_counter()
                write(place, parts, n_users, workers=given.workers, explained=explained)
                seconds = time.perf_counter() - started
            best[explained] = min(best[explained], seconds)
            most = max(most, memory.most)
            shutil.rmtree(place)
    return [
        {
            "case": f"{n_users} users x {given.items} items d={DIM} K={K}, reasons of every row",
            "seconds": round(best[True], 1),
            "users_per_second": round(n_users / best[True]),
            "peak_gib_over_inputs": round((most - held) / (1 << 30), 3),
            "rows": n_users * K,
            "shards": None,
            "shards_found": None,
            "digest": None,
            "reasons": True,
            "added_by_reasons": round(best[True] / best[False] - 1.0, 3),
        }
    ]


if __name__ == "__main__":
    main()
