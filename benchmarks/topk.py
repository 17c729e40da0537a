"""Users per second of exact top-K with a seen filter: metarec, `implicit`, faiss and the bare GEMM.

All on the same factors, in one run, with the same number of threads; of each engine the best of
some rounds counts, and rounds of all engines alternate. Factors are those of an iALS trained on
ML-1M, its rows drawn with replacement and multiplied by noise, and random ones that no bound can
prune. faiss has no seen filter and is asked without. What an engine does once for its items, before
the first query, stands in `prepare_seconds` and is not part of the rates: of a night's users it is
one of many steps, of a few queries it is most of the work. Lists are compared with float64 scores
of all items for some users of each case. A peer that is not installed is left out and named
(`.venv/bin/pip install -e '.[bench]'`).

    python -m benchmarks.topk [--json] [--seed 7] [--threads 1] [--rounds 3] [--quick]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
CHECKED_USERS = 1000
GEMM_USERS = 512


class Shape(NamedTuple):
    """Size of a case."""

    users: int
    items: int
    dim: int
    k: int


SHAPES = (
    Shape(20_000, 20_000, 64, 10),
    Shape(10_000, 61_000, 128, 10),
    Shape(10_000, 61_000, 64, 100),
)
QUICK = (Shape(300, 3_000, 16, 10),)

Engine = Callable[[], Any]


class Engines(NamedTuple):
    """What is timed, by name; seconds that preparing items took; the peers that are absent."""

    run: dict[str, Engine]
    prepared: dict[str, float]
    absent: list[str]


def engines(case: Any, k: int, threads: int) -> Engines:
    """Every engine with its items prepared."""
    import torch

    from metarec_core.ranking.search import FactorIndex

    queries, vectors = torch.from_numpy(case.queries), torch.from_numpy(case.vectors)
    typical = float(queries.norm(dim=1).median())
    FactorIndex(vectors[:256], typical_norm=typical)  # compiles
    started = time.perf_counter()
    index = FactorIndex(vectors, typical_norm=typical)
    prepared = {"metarec": time.perf_counter() - started}
    buffer = torch.empty(GEMM_USERS, len(vectors))

    def gemm() -> None:
        for start in range(0, len(queries), GEMM_USERS):
            part = queries[start : start + GEMM_USERS]
            torch.mm(part, vectors.T, out=buffer[: len(part)])

    found: dict[str, Engine] = {
        "metarec": lambda: index.search(queries, k, closed=case.seen, threads=threads),
        "gemm": gemm,
    }
    absent = []
    if importlib.util.find_spec("implicit"):
        from implicit.cpu.topk import topk
        from scipy.sparse import csr_matrix

        seen = csr_matrix(
            (
                np.ones(len(case.seen.items), dtype=np.float32),
                case.seen.items.astype(np.int32),
                case.seen.indptr.astype(np.int32),
            ),
            shape=(len(queries), len(vectors)),
        )
        found["implicit"] = lambda: topk(
            case.vectors, case.queries, k, filter_query_items=seen, num_threads=threads
        )
    else:
        absent.append("implicit")
    if importlib.util.find_spec("faiss"):
        import faiss

        faiss.omp_set_num_threads(threads)
        flat = faiss.IndexFlatIP(vectors.shape[1])
        started = time.perf_counter()
        flat.add(case.vectors)
        prepared["faiss"] = time.perf_counter() - started
        found["faiss"] = lambda: flat.search(case.queries, k)
    else:
        absent.append("faiss")
    return Engines(found, prepared, absent)


def timed(run: Mapping[str, Engine], rounds: int) -> dict[str, float]:
    """Best seconds of each; the rounds of all alternate."""
    best = dict.fromkeys(run, float("inf"))
    for _ in range(rounds):
        for name, engine in run.items():
            started = time.perf_counter()
            engine()
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def agreement(case: Any, k: int, items: Any, users: Any) -> float:
    """Share of the lists of ``users`` that are those of float64 scores of all items."""
    queries = case.queries[users].astype(np.float64)
    scores = queries @ case.vectors.astype(np.float64).T
    same = 0
    for row, user in enumerate(users):
        line = scores[row]
        line[case.seen.items[case.seen.indptr[user] : case.seen.indptr[user + 1]]] = -np.inf
        same += bool(np.array_equal(np.argsort(-line, kind="stable")[:k], items[user]))
    return same / len(users)


def measure(
    label: str, case: Any, shape: Shape, threads: int, rounds: int, seed: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of one case, and the peers that are absent."""
    run, prepared, absent = engines(case, shape.k, threads)
    lists = run["metarec"]().items
    rng = np.random.default_rng(seed)
    users = rng.choice(shape.users, min(CHECKED_USERS, shape.users), replace=False)
    agreed = agreement(case, shape.k, lists, users)
    seconds = timed(run, rounds)

    def ratio(name: str, to: str) -> float | None:
        return round(seconds[to] / seconds[name], 3) if to in seconds else None

    rows = [
        {
            "case": f"{label} {shape.users}x{shape.items} d={shape.dim} K={shape.k}",
            "engine": name,
            "users_per_second": round(shape.users / seconds[name]),
            "prepare_seconds": round(prepared.get(name, 0.0), 3),
            "ratio_to_implicit": ratio(name, "implicit"),
            "ratio_to_faiss": ratio(name, "faiss"),
            "ratio_to_gemm": ratio(name, "gemm"),
            "agreement": agreed if name == "metarec" else None,
        }
        for name in seconds
    ]
    return rows, absent


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = [
        (
            f"{'case':38} {'engine':9} {'users/s':>9} {'prepared':>9} {'x implicit':>10} "
            f"{'x faiss':>8} {'x GEMM':>7} {'agreement':>9}"
        )
    ]
    for row in rows:
        figures = [row[name] for name in ("ratio_to_implicit", "ratio_to_faiss", "ratio_to_gemm")]
        told = ["-" if figure is None else f"{figure:.2f}" for figure in figures]
        agreed = "-" if row["agreement"] is None else f"{row['agreement']:.3f}"
        lines.append(
            f"{row['case']:38} {row['engine']:9} {row['users_per_second']:>9,} "
            f"{row['prepare_seconds']:>7.3f} s {told[0]:>10} {told[1]:>8} {told[2]:>7} {agreed:>9}"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print the table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.topk")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=None, help="folder of ML-1M")
    parser.add_argument("--quick", action="store_true", help="a small case, for a trial run")
    given = parser.parse_args(arguments)
    # Before peers are imported; NumPy's own threads are limited where they have started already.
    for name in _THREADS:
        os.environ[name] = str(given.threads)
    with threadpool_limits(given.threads):
        run(given)


def run(given: argparse.Namespace) -> None:
    """The cases, one after the other."""
    import torch

    from benchmarks import _factors as factors

    torch.set_num_threads(given.threads)
    data = factors.movielens(given.data or factors.DATA)
    rows: list[dict[str, Any]] = []
    absent: list[str] = []
    trained: dict[int, factors.Trained] = {}
    for shape in QUICK if given.quick else SHAPES:
        if shape.dim not in trained:
            trained[shape.dim] = factors.train(data, shape.dim)
        case = factors.upsampled(trained[shape.dim], shape.users, shape.items, given.seed)
        cases = {"trained": case, "isotropic": factors.isotropic(case, given.seed)}
        for label, one in cases.items():
            found, absent = measure(label, one, shape, given.threads, given.rounds, given.seed)
            rows += found
            print(table(found), file=sys.stderr if given.json else sys.stdout, flush=True)
    for name in absent:
        print(f"{name} is not installed and was left out", file=sys.stderr)
    if given.json:
        result = {"benchmark": "topk", "threads": given.threads, "absent": absent, "rows": rows}
        print(json.dumps(result))


if __name__ == "__main__":
    main()
