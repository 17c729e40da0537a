"""Matrix factorisation of ratings with biases, by alternating least squares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from metarec_core.episodes.types import TaskData
from metarec_core.learners.als import Entries, ridge_rows

_SMALLEST_UNIT = 1e-3
"""Values may be all alike, as implicit ones often are."""


@dataclass(frozen=True, slots=True)
class Ratings:
    """Standardised ratings by user and by item.

    Attributes:
        mu: Mean rating, scalar.
        unit: Standard deviation of ratings, scalar; settings mean the same on every scale.
        by_user: Entries of the users, weight 1, ``(r - mu) / unit``.
        by_item: The same entries of the items.
    """

    mu: Tensor
    unit: Tensor
    by_user: Entries
    by_item: Entries

    @classmethod
    def of(cls, data: TaskData, device: torch.device) -> Self:
        """The ratings of all tasks of ``data``."""
        matrix = data.interactions
        users = np.repeat(np.arange(matrix.n_users), matrix.counts())
        values = matrix.values.astype(np.float64)
        mu, unit = values.mean(), max(values.std(), _SMALLEST_UNIT)
        ones, centred = np.ones_like(values), (values - mu) / unit
        return cls(
            torch.tensor(mu, dtype=torch.float64, device=device),
            torch.tensor(unit, dtype=torch.float64, device=device),
            Entries.of(users, matrix.items, ones, centred, matrix.n_users, device),
            Entries.of(matrix.items, users, ones, centred, data.n_items, device),
        )


def with_constant(factors: Tensor) -> Tensor:
    """Vectors that end in a constant 1 in place of the bias, ``[R, d + 1]``."""
    return torch.cat([factors[:, :-1], torch.ones_like(factors[:, -1:])], dim=1)


def less_bias(entries: Entries, factors: Tensor) -> Entries:
    """The same entries without the bias of their column: ``y - b``, ``b`` the last of factors."""
    return entries.with_targets(entries.targets - factors[entries.columns, -1])


def biased_factors(
    ratings: Ratings, *, dim: int, reg: float, sweeps: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Minimise ``sum (y - b_u - b_i - p_u'q_i)^2 + reg (|p|^2 + |q|^2 + |b|^2)``, by turns.

    ``y`` are standardised ratings.

    Koren, Bell and Volinsky (2009, "Matrix Factorization Techniques for Recommender Systems",
    equation 5). Vector and bias of a row are solved together, by regression on the other side's
    vectors that end in a constant 1.

    Args:
        ratings: Standardised ratings.
        dim: Dimensions ``d``.
        reg: Penalty of squares.
        sweeps: Turns of users and items.
        generator: Source of the initial item vectors, on the CPU.

    Returns:
        Users ``[U, d + 1]`` and items ``[I, d + 1]``, the bias last, float64.
    """
    by_user, by_item = ratings.by_user, ratings.by_item
    device = by_user.columns.device
    n_users, n_items = (len(side.indptr) - 1 for side in (by_user, by_item))
    start = torch.randn(n_items, dim + 1, generator=generator, dtype=torch.float64)
    items = start.to(device) * 0.1
    items[:, -1] = 0.0
    users = items.new_zeros(n_users, dim + 1)
    nothing = items.new_zeros(dim + 1, dim + 1)
    for _ in range(sweeps):
        users = ridge_rows(
            less_bias(by_user, items),
            with_constant(items),
            nothing,
            items.new_full((n_users,), reg),
        )
        items = ridge_rows(
            less_bias(by_item, users),
            with_constant(users),
            nothing,
            items.new_full((n_items,), reg),
        )
    return users, items
