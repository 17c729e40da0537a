"""Alternating least squares: ridge regressions of many rows at once, and implicit ALS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from metarec_core.episodes.types import IntArray

Doubles = npt.NDArray[np.float64]

_NUMBERS_AT_ONCE = 2**18
"""Numbers that a padded batch of vectors may hold: what stays in a cache is twice as fast."""


@dataclass(frozen=True, slots=True)
class Entries:
    """A sparse matrix by rows, on a device.

    Attributes:
        indptr: Row boundaries, ``[R + 1]`` on the CPU.
        columns: Column of each entry, ``[N]``.
        weights: Weight of each entry, ``[N]``.
        targets: What each entry observes, ``[N]``.
    """

    indptr: IntArray
    columns: Tensor
    weights: Tensor
    targets: Tensor

    @classmethod
    def of(
        cls,
        rows: IntArray,
        columns: IntArray,
        weights: Doubles,
        targets: Doubles,
        n_rows: int,
        device: torch.device,
    ) -> Self:
        """Group entries by row; within a row they keep their order.

        Args:
            rows: Row of each entry, ``[N]``.
            columns: Column of each entry, ``[N]``.
            weights: Weight of each entry, ``[N]``.
            targets: What each entry observes, ``[N]``.
            n_rows: Number of rows; some may be empty.
            device: Where to compute.
        """
        order = np.argsort(rows, kind="stable")
        counts = np.bincount(rows, minlength=n_rows)
        return cls(
            np.concatenate([[0], np.cumsum(counts)]),
            *(torch.from_numpy(part[order]).to(device) for part in (columns, weights, targets)),
        )

    @property
    def counts(self) -> IntArray:
        """Entries of each row, ``[R]``."""
        counts: IntArray = np.diff(self.indptr)
        return counts

    def with_targets(self, targets: Tensor) -> Entries:
        """The same entries that observe something else, ``[N]``."""
        return replace(self, targets=targets)

    def batches(self, dim: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Rows of like length together, padded, few enough to fit.

        Args:
            dim: Dimensions that each entry is going to have.

        Yields:
            Row numbers ``[B]``, positions of their entries ``[B, L]`` (padding holds 0) and the
            mask of real ones ``[B, L]``. Rows without entries come too.
        """
        counts, device = self.counts, self.columns.device
        order = np.argsort(counts, kind="stable")
        most = max(1, _NUMBERS_AT_ONCE // dim**2)
        start = 0
        while start < len(order):
            # Lengths rise, so the last row of a batch decides its width.
            widths = np.maximum(counts[order[start : start + most]], dim)
            fits = np.arange(1, len(widths) + 1) * widths * dim <= _NUMBERS_AT_ONCE
            stop = start + max(1, int(fits.sum()))
            rows = order[start:stop]
            within = np.arange(counts[rows].max(initial=0))
            mask = within < counts[rows][:, None]
            positions = np.where(mask, self.indptr[rows][:, None] + within, 0)
            yield (
                torch.from_numpy(rows).to(device),
                torch.from_numpy(positions).to(device),
                torch.from_numpy(mask).to(device),
            )
            start = stop


def normal_equations(
    entries: Entries, vectors: Tensor, base: Tensor, ridge: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Ridge regressions of all rows of a sparse matrix on their columns' vectors.

    Row ``r`` minimises ``sum_n c_n (y_n - w'v_n)^2 + w' (base + ridge_r) w``. Memory is bounded
    by batches of rows (one row of ``n`` entries takes ``n x d`` numbers at least).

    Args:
        entries: ``c`` and ``y``, ``R`` rows.
        vectors: ``v`` of each column, ``[C, d]``.
        base: ``[d, d]``.
        ridge: Added to the diagonal, ``[R]`` or ``[R, d]``.

    Yields:
        Row numbers ``[B]``, solutions ``w`` ``[B, d]``, and Cholesky factors of the normal
        matrices ``[B, d, d]``.
    """
    for rows, positions, mask in entries.batches(vectors.shape[1]):
        features = vectors[entries.columns[positions]]
        weighted = features * (entries.weights[positions] * mask).unsqueeze(-1)
        matrix = base + weighted.mT @ features
        penalty = ridge[rows]
        matrix.diagonal(dim1=1, dim2=2).add_(penalty if penalty.dim() == 2 else penalty[:, None])
        factor = torch.linalg.cholesky(matrix)
        pull = weighted.mT @ entries.targets[positions].unsqueeze(-1)
        yield rows, torch.cholesky_solve(pull, factor).squeeze(-1), factor


def ridge_rows(entries: Entries, vectors: Tensor, base: Tensor, ridge: Tensor) -> Tensor:
    """The solutions of :func:`normal_equations`, ``[R, d]``."""
    solved = vectors.new_zeros(len(entries.indptr) - 1, vectors.shape[1])
    for rows, solution, _ in normal_equations(entries, vectors, base, ridge):
        solved[rows] = solution
    return solved


@dataclass(frozen=True, slots=True)
class ImplicitProblem:
    """What implicit ALS minimises, over user vectors ``w`` and item vectors ``v``.

    ``sum_(u,i) c_ui (1 - w_u'v_i)^2 + unobserved sum_u sum_i (w_u'v_i)^2
    + reg (sum_u k_u |w_u|^2 + sum_i k_i |v_i|^2)``, ``k = (n + unobserved m)^nu`` with ``n`` the
    entries of a row and ``m`` the rows of the other side (Hu, Koren and Volinsky 2008 with the
    objective of Rendle et al. 2022, "Revisiting the Performance of iALS on Item Recommendation
    Benchmarks", equations 2 to 5).

    Attributes:
        unobserved: Weight of all pairs, observed or not.
        reg: Weight of the penalty.
        nu: How much the penalty of a row grows with its entries; 0 for not at all.
    """

    unobserved: float
    reg: float
    nu: float

    def ridge(self, counts: Tensor, n_others: int) -> Tensor:
        """Penalty of each row, ``[R]``, by its number of entries ``[R]``."""
        penalty: Tensor = self.reg * (counts + self.unobserved * n_others) ** self.nu
        return penalty

    def base(self, vectors: Tensor) -> Tensor:
        """What unobserved pairs with ``vectors`` (``[C, d]``) say, ``[d, d]``."""
        return self.unobserved * (vectors.mT @ vectors)

    def solve(self, entries: Entries, vectors: Tensor, n_others: int) -> Tensor:
        """Vectors of all rows given those of the columns, ``[R, d]``."""
        counts = torch.from_numpy(entries.counts).to(vectors)
        return ridge_rows(entries, vectors, self.base(vectors), self.ridge(counts, n_others))


def implicit_als(
    by_user: Entries,
    by_item: Entries,
    problem: ImplicitProblem,
    *,
    dim: int,
    sweeps: int,
    generator: torch.Generator,
    after_sweep: Callable[[int, float], None],
) -> Tensor:
    """Item vectors, by turns with those of users.

    Args:
        by_user: Votes, a row a user.
        by_item: The same votes, a row an item.
        problem: What is minimised.
        dim: Dimensions ``d``.
        sweeps: Turns.
        generator: Source of the initial item vectors, on the CPU.
        after_sweep: Called with the turn (from 1) and how much items moved, relative to their
            norm.

    Returns:
        ``[I, d]`` float64; zero for an item without votes.
    """
    device = by_user.columns.device
    n_users, n_items = (int((side.counts > 0).sum()) for side in (by_user, by_item))
    met = torch.from_numpy(by_item.counts > 0).to(device)
    start = torch.randn(len(met), dim, generator=generator, dtype=torch.float64)
    # The scale of the paper: predictions start near 0 whatever the dimensions.
    items: Tensor = start.to(device) * (0.1 / dim**0.5) * met.unsqueeze(-1)
    for sweep in range(1, sweeps + 1):
        before = items
        users = problem.solve(by_user, items, n_items)
        items = problem.solve(by_item, users, n_users)
        moved = (items - before).norm() / items.norm().clamp_min(1e-12)
        after_sweep(sweep, float(moved))
    return items
