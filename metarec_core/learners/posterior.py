"""Bayesian linear regression, batched: a Gaussian prior and a support give a Gaussian posterior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

_LEAST = 1e-6


def entries(table: Tensor, items: Tensor) -> Tensor:
    """Rows ``[B, S, d]`` of a table ``[I, d]``, for items ``[B, S]``.

    Several times as quick as ``table[items]`` forward and ``embedding`` backward.
    """
    return table.index_select(0, items.reshape(-1)).view(*items.shape, table.shape[1])


def products(table: Tensor, weights: Tensor, items: Tensor | None) -> Tensor:
    """Products of several vectors a user with the rows of a table.

    Args:
        table: ``[I, d]``.
        weights: ``[B, N, d]``.
        items: Rows ``[B, K]``; None for all.

    Returns:
        ``[B, K, N]`` or ``[B, I, N]``.
    """
    return (table if items is None else table[items]) @ weights.mT


def contrasts(groups: Tensor, table: Tensor) -> Tensor:
    """Mean row of each group less the mean row of the table.

    Args:
        groups: ``[G, I]``, sparse or not; each row holds the weights of a mean.
        table: ``[I, d]``.

    Returns:
        ``[G, d]``.
    """
    return groups @ table - table.mean(dim=0)


class Lifts(NamedTuple):
    """What each support entry adds to the mean of a prior: a vector of its item, times a weight.

    Attributes:
        table: Of each item, ``[I, d]``.
        items: Of the support, ``[B, S]``.
        weight: Of each entry, ``[B, S]``; 0 at padding.
        regrowth: What the weights of all others are multiplied with where one entry is gone,
            ``[B]``; None: nothing.
    """

    table: Tensor
    items: Tensor
    weight: Tensor
    regrowth: Tensor | None = None

    def total(self) -> Tensor:
        """Sum over the support, ``[B, d]``."""
        return (self.weight.unsqueeze(1) @ entries(self.table, self.items)).squeeze(1)

    def each(self) -> Tensor:
        """``[B, S, d]``."""
        return entries(self.table, self.items) * self.weight.unsqueeze(-1)

    def without(self, places: Tensor) -> Tensor:
        """The sum over the support without each of the entries at ``places`` (``[B, N]``).

        Returns:
            ``[B, N, d]``.
        """
        gone = entries(self.table, self.items.gather(1, places))
        gone = gone * self.weight.gather(1, places).unsqueeze(-1)
        left = self.total().unsqueeze(1) - gone
        return left if self.regrowth is None else left * self.regrowth[:, None, None]


@dataclass(frozen=True, slots=True)
class Posterior:
    """``w ~ N(A^-1 (P m + V' B y), A^-1)`` of a batch of users.

    ``P`` is the prior precision, ``m`` the prior mean, which each support entry may move by a
    vector of its own, ``V`` the support's vectors, ``B`` the
    diagonal of their noise precisions, ``y`` the targets, ``A = P + V' B V`` (Bishop 2006,
    "Pattern Recognition and Machine Learning", equations 3.50 and 3.51).

    Everything that is asked of ``A`` is a product with the inverse of its Cholesky factor, made
    once: triangular solves on a batch of small matrices cost several times as much.

    Attributes:
        whitener: ``L^-1`` where ``A = L L'``, lower triangular, ``[B, d, d]``.
        prior_pull: ``P m`` before any entry moved ``m``, ``[B, d]``.
        mean: Posterior mean, ``[B, d]``.
        rows: ``beta_s^.5 v_s`` of each support entry, ``[B, S, d]``; 0 at padding.
        targets: ``beta_s^.5 y_s``, ``[B, S]``; 0 at padding.
        lifts: What each entry moves ``m`` by; None where nothing does.
        prior_precision: ``P``, ``[B, d, d]``.
    """

    whitener: Tensor
    prior_pull: Tensor
    mean: Tensor
    rows: Tensor
    targets: Tensor
    lifts: Lifts | None
    prior_precision: Tensor

    @classmethod
    def of(
        cls,
        vectors: Tensor,
        targets: Tensor,
        noise_precision: Tensor,
        mask: Tensor,
        prior_mean: Tensor,
        prior_precision: Tensor,
        lifts: Lifts | None = None,
    ) -> Posterior:
        """Condition on a batch of supports.

        Args:
            vectors: ``V``, ``[B, S, d]``.
            targets: ``y``, ``[B, S]``.
            noise_precision: ``beta`` of each entry, ``[B, S]`` or broadcastable.
            mask: True where an entry is real, ``[B, S]``.
            prior_mean: ``m``, ``[B, d]``.
            prior_precision: ``P``, ``[B, d, d]``, symmetric positive definite.
            lifts: ``l``, what each entry adds to ``m``, whatever its target; None: nothing.
        """
        prior_mean, prior_precision = prior_mean.to(vectors), prior_precision.to(vectors)
        root = noise_precision.sqrt() * mask
        rows, targets = vectors * root.unsqueeze(-1), targets * root
        gram: Tensor = Gram.apply(rows)  # type: ignore[no-untyped-call]
        whitener: Tensor = InverseCholesky.apply(prior_precision + gram)  # type: ignore[no-untyped-call]
        prior_pull = (prior_precision @ prior_mean.unsqueeze(-1)).squeeze(-1)
        pull = prior_pull + (targets.unsqueeze(1) @ rows).squeeze(1)
        if lifts is not None:
            pull = pull + (prior_precision @ lifts.total().unsqueeze(-1)).squeeze(-1)
        mean = (whitener.mT @ (whitener @ pull.unsqueeze(-1))).squeeze(-1)
        return cls(whitener, prior_pull, mean, rows, targets, lifts, prior_precision)

    def means_without(self, places: Tensor) -> Tensor:
        """The posterior mean of a support without each of some entries, without a refit.

        With ``r = beta_s^.5 v_s``, leverage ``h = r' A^-1 r`` and ``p`` the pull of all that is
        left, ``(A - r r')^-1 p = A^-1 p + A^-1 r (r' A^-1 p) / (1 - h)`` (Sherman and Morrison
        1950). Where nothing else hangs on the entry, the score of ``v`` thus loses
        ``beta_s (v' A^-1 v_s) (y_s - v_s' mean) / (1 - h)``; with lifts the prior mean moves too.

        Args:
            places: Positions in the support, ``[B, N]``; -1, or padding, leaves nothing out.

        Returns:
            ``[B, N, d]``.
        """
        if self.rows.shape[1] == 0:
            return self.mean.unsqueeze(1).expand(-1, places.shape[1], -1)
        places, gone = places.clamp_min(0), places >= 0
        rows = self.rows.gather(1, places.unsqueeze(-1).expand(-1, -1, self.rows.shape[2]))
        targets = self.targets.gather(1, places).unsqueeze(-1)
        pull = (self.prior_pull + (self.targets.unsqueeze(1) @ self.rows).squeeze(1)).unsqueeze(1)
        left = pull - rows * targets
        if self.lifts is not None:
            left = left + self.lifts.without(places) @ self.prior_precision
            gone = gone & (self.lifts.weight.gather(1, places) > 0)
        solved = left @ self.whitener.mT @ self.whitener
        lever = rows @ self.whitener.mT @ self.whitener
        leverage = (rows * lever).sum(dim=-1, keepdim=True)
        gain = (left * lever).sum(dim=-1, keepdim=True) / (1.0 - leverage)
        return torch.where(gone.unsqueeze(-1), solved + gain * lever, self.mean.unsqueeze(1))

    @property
    def pulls(self) -> Tensor:
        """``beta_s v_s y_s + P l_s``, ``[B, S, d]``; made for reasons alone, as training is hot."""
        pulls = self.rows * self.targets.unsqueeze(-1)
        return pulls if self.lifts is None else pulls + self.lifts.each() @ self.prior_precision

    @property
    def covariance(self) -> Tensor:
        """``A^-1``, ``[B, d, d]``; made when asked for, never kept."""
        return self.whitener.mT @ self.whitener

    def variance(self, vectors: Tensor) -> Tensor:
        """``v' A^-1 v`` of the preference, without noise.

        Args:
            vectors: One set a user ``[B, K, d]``, or one for all ``[I, d]``.

        Returns:
            ``[B, K]`` or ``[B, I]``.
        """
        if vectors.dim() == 3:
            variance: Tensor = (vectors @ self.whitener.mT).square().sum(dim=-1)
            return variance
        # One GEMM a dimension: [B, I, d] would be d times as large as what is returned.
        total = vectors.new_zeros(len(self.whitener), len(vectors))
        for row in self.whitener.unbind(dim=1):
            total += (row @ vectors.mT).square()
        return total

    def joint(self, vectors: Tensor) -> Tensor:
        """``V A^-1 V'`` of the preference, without noise: which products err together.

        Args:
            vectors: ``[B, K, d]``.

        Returns:
            ``[B, K, K]``, a matrix times its own transpose.
        """
        whitened = vectors @ self.whitener.mT
        return whitened @ whitened.mT

    def left_out(self) -> Tensor:
        """Squared error of each support entry's target, forecast from the others, by its variance.

        ``e^2 / (1 - h)`` with the residual ``e = y - v' mean`` and the leverage ``h = v' A^-1 v``,
        all in units of the entry's noise (Rasmussen and Williams 2006, "Gaussian Processes for
        Machine Learning", section 5.4.2); what an entry does to the prior mean stays.

        Returns:
            ``[B, S]``, 1 on average where the model is true; 0 at padding.
        """
        residual = self.targets - (self.rows @ self.mean.unsqueeze(-1)).squeeze(-1)
        return residual.square() / (1.0 - self.variance(self.rows)).clamp_min(_LEAST)

    def whiten(self, vectors: Tensor) -> Tensor:
        """``V W'``: rows whose squared lengths are variances, ``[B, K, d]``."""
        return vectors @ self.whitener.mT

    def shares(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Split ``v' mean`` into the prior's part and one part a support entry.

        Args:
            vectors: ``[B, K, d]``.

        Returns:
            ``v' A^-1 P m`` ``[B, K]`` and ``v' A^-1 (beta_s v_s y_s + P l_s)`` ``[B, K, S]``.
        """
        return self.shares_of(self.whiten(vectors))

    def shares_of(self, whitened: Tensor) -> tuple[Tensor, Tensor]:
        """The same of vectors that are whitened already."""
        prior = whitened @ (self.whitener @ self.prior_pull.unsqueeze(-1))
        return prior.squeeze(-1), whitened @ (self.pulls @ self.whitener.mT).mT


class Gram(torch.autograd.Function):
    """``V -> V' V`` of a batch ``[B, S, d]``.

    Its gradient is one product where that of a product of two matrices is two.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        """``[B, d, d]``."""
        ctx.save_for_backward(rows)
        return rows.mT @ rows

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """``V (G + G')``."""
        rows: Tensor = ctx.saved_tensors[0]
        return rows @ (gradients[0] + gradients[0].mT)


class InverseCholesky(torch.autograd.Function):
    """``A -> W`` with ``W A W' = 1``, ``W`` lower triangular, for a batch ``[B, d, d]``.

    With ``G`` the gradient of ``W``, that of ``A`` is ``-sym(W' low(G W') W)``, ``low`` the lower
    triangle with half its diagonal (Murray 2016, "Differentiation of the Cholesky
    decomposition", with the solves written as products with ``W``): products alone.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        """``W`` of symmetric positive definite matrices."""
        factor = torch.linalg.cholesky(matrix)
        eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
        whitener: Tensor = torch.linalg.solve_triangular(factor, eye, upper=False)
        ctx.save_for_backward(whitener)
        return whitener

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """The gradient of the matrices, symmetric."""
        whitener: Tensor = ctx.saved_tensors[0]
        lower = (gradients[0] @ whitener.mT).tril()
        lower.diagonal(dim1=-2, dim2=-1).mul_(0.5)
        inner = whitener.mT @ lower @ whitener
        return -0.5 * (inner + inner.mT)
