"""Every method of re-ranking in NumPy, one user at a time: what speed is compared with.

Straightforward, not naive: each place is one vectorised pass over the candidates, and similarities
of a pool are one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from metarec_core.ranking.diversity.pool import Pool
from metarec_core.ranking.diversity.space import ItemSpace

Doubles = npt.NDArray[np.float64]
Places = list[int]
Reference = Callable[[Pool, ItemSpace, int, float, int], Places]
"""From pool, space, row, strength and length to positions in the pool."""


def _standard(values: Doubles) -> Doubles:
    return (values - values.mean()) / values.std()


def _taste(pool: Pool, space: ItemSpace, row: int) -> Doubles:
    known = space.categories[pool.history[row][pool.history_mask[row]]].astype(np.float64)
    total = known.sum(axis=0)
    return total / total.sum()


def _greedy(n: int, length: int, value: Callable[[Places], Doubles]) -> Places:
    shown: Places = []
    taken = np.zeros(n, dtype=np.bool_)
    for _ in range(length):
        best = int(np.where(taken, -np.inf, value(shown)).argmax())
        shown.append(best)
        taken[best] = True
    return shown


def none(pool: Pool, space: ItemSpace, row: int, strength: float, length: int) -> Places:
    """The order of scores."""
    return list(range(length))


def mmr(pool: Pool, space: ItemSpace, row: int, strength: float, length: int) -> Places:
    """Maximal marginal relevance."""
    z, vectors = _standard(pool.scores[row]), space.vectors[pool.items[row]]
    alike = vectors @ vectors.T
    closest = np.full(len(z), -np.inf)

    def value(shown: Places) -> Doubles:
        if not shown:
            return z
        np.maximum(closest, alike[shown[-1]], out=closest)
        return (1.0 - strength) * z - strength * closest

    return _greedy(len(z), length, value)


def dpp(pool: Pool, space: ItemSpace, row: int, strength: float, length: int) -> Places:
    """Fast greedy MAP of Chen, Zhang & Zhou (2018), their algorithm 1."""
    z, vectors = _standard(pool.scores[row]), space.vectors[pool.items[row]].astype(np.float64)
    kernel = 0.5 + 0.5 * (vectors @ vectors.T)
    np.fill_diagonal(kernel, 1.0)
    factor, left = np.zeros((length, len(z))), np.ones(len(z))

    def value(shown: Places) -> Doubles:
        if shown:
            last, rank = shown[-1], len(shown) - 1
            part = kernel[last] - factor[:rank, last] @ factor[:rank]
            factor[rank] = part / np.sqrt(left[last])
            np.subtract(left, factor[rank] ** 2, out=left)
        return (1.0 - strength) * z + strength * np.log(np.maximum(left, 1e-6))

    return _greedy(len(z), length, value)


def xquad(pool: Pool, space: ItemSpace, row: int, strength: float, length: int) -> Places:
    """Explicit aspects over categories."""
    scores, categories = pool.scores[row], space.categories[pool.items[row]]
    relevance = (scores - scores[-1]) / (scores[0] - scores[-1])
    still_open = _taste(pool, space, row)

    def value(shown: Places) -> Doubles:
        if shown:
            np.multiply(still_open, 1.0 - categories[shown[-1]], out=still_open)
        return (1.0 - strength) * relevance + strength * (categories @ still_open)

    return _greedy(len(scores), length, value)


def calibrated(pool: Pool, space: ItemSpace, row: int, strength: float, length: int) -> Places:
    """Steck's calibration, the divergence of every possible next list at once."""
    z, categories = _standard(pool.scores[row]), space.categories[pool.items[row]]
    wanted = _taste(pool, space, row)
    asked = wanted > 0.0
    wanted, categories = wanted[asked], categories.astype(np.float64)

    def value(shown: Places) -> Doubles:
        total = categories[shown].sum(axis=0) + categories
        mass = np.maximum(total.sum(axis=1, keepdims=True), 1.0)
        share = 0.99 * (total / mass)[:, asked] + 0.01 * wanted
        return (1.0 - strength) * z + strength * (np.log(share) @ wanted)

    return _greedy(len(z), length, value)


def popularity(pool: Pool, space: ItemSpace, row: int, strength: float, length: int) -> Places:
    """Scores less log popularity."""
    known = _standard(space.log_popularity[pool.items[row]])
    value = _standard(pool.scores[row]) - strength * known
    return np.argsort(-value, kind="stable")[:length].tolist()


def sample(pool: Pool, space: ItemSpace, row: int, strength: float, length: int) -> Places:
    """Thompson sampling with draws of NumPy's own."""
    assert pool.covariance is not None
    assert pool.users is not None
    n = len(pool.scores[row])
    draws = np.random.default_rng([int(pool.users[row]) & 0xFFFFFFFF, 1]).normal(size=n)
    covariance = pool.covariance[row]
    jitter = 1e-9 * np.trace(covariance) / n * np.eye(n)
    value = pool.scores[row] + strength * (np.linalg.cholesky(covariance + jitter) @ draws)
    return np.argsort(-value, kind="stable")[:length].tolist()


def mean_variance(pool: Pool, space: ItemSpace, row: int, strength: float, length: int) -> Places:
    """Greedy portfolios."""
    assert pool.covariance is not None
    scores = pool.scores[row]
    z, covariance = _standard(scores), pool.covariance[row] / scores.var()
    own, risk = covariance.diagonal(), np.zeros(len(z))

    def value(shown: Places) -> Doubles:
        if shown:
            weight = 1.0 / np.log2(len(shown) + 1.0)
            np.add(risk, 2.0 * weight * covariance[shown[-1]], out=risk)
        weight = 1.0 / np.log2(len(shown) + 2.0)
        return (1.0 - strength) * z - strength * (weight * own + risk)

    return _greedy(len(z), length, value)


# ruff: noqa: ARG001  (all references take the same arguments)
REFERENCES: Mapping[Any, Reference] = {
    "none": none,
    "mmr": mmr,
    "dpp": dpp,
    "xquad": xquad,
    "calibrated": calibrated,
    "popularity": popularity,
    "sample": sample,
    "mean_variance": mean_variance,
}
