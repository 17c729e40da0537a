"""Factors of a trained model, multiplied up to any size, for the benchmarks of ranking."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from metarec_core.episodes.types import InteractionMatrix, TaskData, ValueScale
from metarec_core.learners.base import FitContext
from metarec_core.learners.ials import Ials, IalsConfig
from metarec_core.ranking.blocks import blocks
from metarec_core.ranking.search import Closed
from metarec_core.schema import Feedback

DATA = Path("../shared/data/ml-1m")
SCALE = ValueScale(Feedback.EXPLICIT, 1.0, 5.0, 4.0)
NOISE = 0.1
"""Each number of a drawn row is multiplied by ``1 + NOISE * N(0, 1)``."""

Matrix = npt.NDArray[np.float32]


class Trained(NamedTuple):
    """A fitted model and what it was fitted on.

    Attributes:
        users: ``[U, d]`` float32.
        items: ``[I, d]`` float32.
        histories: What each user has rated.
    """

    users: Matrix
    items: Matrix
    histories: InteractionMatrix


class Case(NamedTuple):
    """What is ranked.

    Attributes:
        queries: ``[U, d]`` float32.
        vectors: ``[I, d]`` float32.
        seen: Items of each user that are not to be found.
    """

    queries: Matrix
    vectors: Matrix
    seen: Closed


def movielens(root: Path = DATA) -> TaskData:
    """All ratings of ML-1M, without features."""
    ratings = pl.read_parquet(root / "ratings.parquet")
    users, user = np.unique(ratings["user_id"].to_numpy(), return_inverse=True)
    items, item = np.unique(ratings["item_id"].to_numpy(), return_inverse=True)
    order = np.lexsort((item, user))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(user))]).astype(np.int64)
    values = ratings["rating"].to_numpy().astype(np.float32)
    matrix = InteractionMatrix(indptr, item[order].astype(np.int64), values[order])
    return TaskData(
        matrix,
        np.zeros((len(users), 0), dtype=np.float32),
        np.zeros((len(items), 0), dtype=np.float32),
        SCALE,
    )


def train(data: TaskData, dim: int, *, sweeps: int = 8, seed: int = 1) -> Trained:
    """Factors of iALS, with each user folded in."""
    learner = Ials(IalsConfig(dim=dim, sweeps=sweeps))
    learner.fit(data, data, FitContext(seed=seed, device=torch.device("cpu")))
    users = np.zeros((data.n_users, dim), dtype=np.float32)
    everyone = np.arange(data.n_users)
    matrix = data.interactions
    for block in blocks(matrix, data.user_features, everyone, n_columns=data.n_items):
        predictor = learner.adapt(block.support)
        users[block.users] = predictor.query[: len(block.users)].numpy()
    return Trained(users, learner.vectors.numpy(), matrix)


def upsampled(trained: Trained, n_users: int, n_items: int, seed: int) -> Case:
    """Users and items drawn with replacement, each number multiplied by noise.

    A user has seen as many items as the one it was drawn from, at most half of the catalogue, each
    a random copy of one of that user's items where there are copies.
    """
    rng = np.random.default_rng(seed)
    who = rng.integers(0, len(trained.users), n_users)
    what = rng.integers(0, len(trained.items), n_items)
    queries, vectors = _noisy(trained.users[who], rng), _noisy(trained.items[what], rng)
    order = np.argsort(what, kind="stable")
    copies = np.bincount(what, minlength=len(trained.items))
    starts = np.concatenate([[0], np.cumsum(copies)])
    part = trained.histories.select(who)
    rows = np.repeat(np.arange(n_users), part.counts())
    there = copies[part.items] > 0
    rows, items = rows[there], part.items[there]
    chosen = order[starts[items] + rng.integers(0, copies[items])]
    counts = np.bincount(rows, minlength=n_users)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Case(queries, vectors, Closed(indptr, chosen[np.lexsort((chosen, rows))]))


def isotropic(like: Case, seed: int) -> Case:
    """Random factors of the same shape, which no bound can prune, and the same seen items."""
    rng = np.random.default_rng(seed)
    return Case(
        rng.standard_normal(like.queries.shape, dtype=np.float32),
        rng.standard_normal(like.vectors.shape, dtype=np.float32),
        like.seen,
    )


def _noisy(rows: Matrix, rng: np.random.Generator) -> Matrix:
    noisy: Matrix = rows * (1.0 + NOISE * rng.standard_normal(rows.shape, dtype=np.float32))
    return noisy
