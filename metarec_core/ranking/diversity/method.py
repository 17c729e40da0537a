"""What a method of re-ranking is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from metarec_core.episodes.types import IntArray
from metarec_core.ranking.diversity.pool import DoubleArray, Pool
from metarec_core.ranking.diversity.space import ItemSpace


@dataclass(frozen=True, slots=True)
class Request:
    """Candidates to be put in order.

    Attributes:
        pool: The candidates of ``B`` users.
        space: The catalogue.
        strength: In (0, 1]; 0 never reaches a method.
        length: Places to fill, at most ``P``.
        seed: Of every draw.
        counts: Candidates of each user, ``[B]``.
        standard: Scores with mean 0 and sd 1 within each pool, ``[B, P]``.
        spread: Sd of each pool's scores, ``[B]``; 1 where all are equal.
    """

    pool: Pool
    space: ItemSpace
    strength: float
    length: int
    seed: int
    counts: IntArray
    standard: DoubleArray
    spread: DoubleArray


@dataclass(frozen=True, slots=True)
class Method:
    """A way to put candidates in order.

    Attributes:
        order: From a request to positions in the pool, ``[B, length]`` int64; -1 behind the last
            candidate. Of equals the one with the lower position comes first.
        vectors: Whether it reads item vectors.
        categories: Whether it reads categories.
        covariance: Whether it reads the covariance of the scores.
    """

    order: Callable[[Request], IntArray]
    vectors: bool = False
    categories: bool = False
    covariance: bool = False
