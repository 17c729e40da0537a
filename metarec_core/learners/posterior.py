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


class Lifts(NamedTuple):
    """What each support entry adds to the mean of a prior: a vector of its item, times a weight.

    Attributes:
        table: Of each item, ``[I, d]``.
        items: Of the support, ``[B, S]``.
        weight: Of each entry, ``[B, S]``; 0 at padding.
    """

    table: Tensor
    items: Tensor
    weight: Tensor

    def total(self) -> Tensor:
        """Sum over the support, ``[B, d]``."""
        return (self.weight.unsqueeze(1) @ entries(self.table, self.items)).squeeze(1)

    def each(self) -> Tensor:
        """``[B, S, d]``."""
        return entries(self.table, self.items) * self.weight.unsqueeze(-1)


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

    def shares(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Split ``v' mean`` into the prior's part and one part a support entry.

        Args:
            vectors: ``[B, K, d]``.

        Returns:
            ``v' A^-1 P m`` ``[B, K]`` and ``v' A^-1 (beta_s v_s y_s + P l_s)`` ``[B, K, S]``.
        """
        solved = self.whitener.mT @ (self.whitener @ vectors.mT)
        prior = (self.prior_pull.unsqueeze(1) @ solved).squeeze(1)
        return prior, (self.pulls @ solved).mT


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
