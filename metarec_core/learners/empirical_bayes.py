"""A Gaussian prior of many linear regressions, and their noise, learned by EM."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from metarec_core.learners.als import Entries, normal_equations

_FLOOR = 1e-6
"""Smallest variance: ratings that are all alike must leave something to divide by."""


class Prior(NamedTuple):
    """What all regressions have in common.

    Attributes:
        mean: ``m``, ``[d]``.
        covariance: ``S``, ``[d, d]``.
        noise: Variance of a target around its regression, scalar.
    """

    mean: Tensor
    covariance: Tensor
    noise: Tensor


def learn_prior(entries: Entries, vectors: Tensor, start: Prior, iterations: int) -> Prior:
    """Maximise the likelihood of all rows, the regressions integrated out.

    Row ``r`` has ``w_r ~ N(m, S)`` and ``y_n ~ N(w_r'v_n, noise)``; EM for the random
    coefficients of a linear mixed model (Laird and Ware 1982; Bishop 2006, section 9.3.4). Rows
    without entries say nothing and are left out.

    Args:
        entries: ``y`` (weights are taken as 1), ``R`` rows.
        vectors: ``v`` of each column, ``[C, d]``.
        start: Where to start.
        iterations: Steps of EM.
    """
    prior = start
    for _ in range(iterations):
        prior = _step(entries, vectors, prior)
    return prior


def posteriors(
    entries: Entries, vectors: Tensor, prior: Prior, probe: Tensor
) -> tuple[Tensor, Tensor]:
    """Posterior mean of every row's ``w``, and how uncertain predictions are for want of entries.

    Args:
        entries: ``y`` (weights are taken as 1), ``R`` rows.
        vectors: ``v`` of each column, ``[C, d]``.
        prior: What all rows have in common.
        probe: Second moment ``M`` of the vectors that predictions are asked for, ``[d, d]``.

    Returns:
        Means ``[R, d]`` and ``tr(C_r M)`` ``[R]``, ``C_r`` the posterior covariance: the expected
        variance of ``w_r'v``. No covariance is kept.
    """
    n_rows = len(entries.indptr) - 1
    means, spread = vectors.new_zeros(n_rows, vectors.shape[1]), vectors.new_zeros(n_rows)
    for rows, shift, factor in _posteriors(entries, vectors, prior):
        means[rows] = prior.mean + shift
        covariance = prior.noise * torch.cholesky_inverse(factor)
        spread[rows] = (covariance * probe).sum(dim=(1, 2))
    return means, spread


def _step(entries: Entries, vectors: Tensor, prior: Prior) -> Prior:
    """One step of EM, from sums over rows alone.

    With ``t = y - v'm``, ``A = noise S^-1 + V'V`` and ``delta = A^-1 V't``, the squared residuals
    of a row sum to ``t't - delta'A delta - noise delta'S^-1 delta``, and ``tr(C V'V) =
    noise (d - tr(C S^-1))``.
    """
    met = torch.from_numpy(entries.counts > 0).to(vectors.device)
    precision = torch.linalg.inv(prior.covariance)
    dim = vectors.shape[1]
    first, second = vectors.new_zeros(dim), vectors.new_zeros(dim, dim)
    squares = _around(entries, vectors, prior).square().sum()
    for rows, shifts, factors in _posteriors(entries, vectors, prior):
        shift, factor = shifts[met[rows]], factors[met[rows]]
        covariance = prior.noise * torch.cholesky_inverse(factor)
        explained = (factor.mT @ shift.unsqueeze(-1)).square().sum()
        penalty = ((shift @ precision) * shift).sum()
        slack = len(shift) * dim - (covariance * precision).sum()
        first = first + shift.sum(dim=0)
        second = second + covariance.sum(dim=0) + shift.mT @ shift
        squares = squares - explained - prior.noise * (penalty - slack)
    n_rows = met.sum().clamp_min(1)
    move = first / n_rows
    covariance = second / n_rows - move.outer(move)
    return Prior(
        prior.mean + move,
        (covariance + covariance.mT) / 2 + _FLOOR * torch.eye(dim).to(vectors),
        (squares / max(1, len(entries.targets))).clamp_min(_FLOOR),
    )


def _around(entries: Entries, vectors: Tensor, prior: Prior) -> Tensor:
    """Targets less what the prior's mean predicts, ``[N]``."""
    return entries.targets - (vectors @ prior.mean)[entries.columns]


def _posteriors(
    entries: Entries, vectors: Tensor, prior: Prior
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rows, posterior means less the prior's, and factors of ``noise S^-1 + V'V``, by batch."""
    precision = prior.noise * torch.linalg.inv(prior.covariance)
    yield from normal_equations(
        entries.with_targets(_around(entries, vectors, prior)),
        vectors,
        (precision + precision.mT) / 2,
        vectors.new_zeros(len(entries.indptr) - 1),
    )
