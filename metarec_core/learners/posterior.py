"""Bayesian linear regression, batched: a Gaussian prior and a support give a Gaussian posterior."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Posterior:
    """``w ~ N(A^-1 (P m + V' B y), A^-1)`` of a batch of users.

    ``P`` is the prior precision, ``m`` the prior mean, ``V`` the support's vectors, ``B`` the
    diagonal of their noise precisions, ``y`` the targets, ``A = P + V' B V`` (Bishop 2006,
    "Pattern Recognition and Machine Learning", equations 3.50 and 3.51).

    Attributes:
        factor: Lower Cholesky factor of ``A``, ``[B, d, d]``.
        prior_pull: ``P m``, ``[B, d]``.
        weighted: ``beta_s v_s`` of each support entry, ``[B, S, d]``; 0 at padding.
        targets: ``y_s``, ``[B, S]``.
        mean: Posterior mean, ``[B, d]``.
    """

    factor: Tensor
    prior_pull: Tensor
    weighted: Tensor
    targets: Tensor
    mean: Tensor

    @classmethod
    def of(
        cls,
        vectors: Tensor,
        targets: Tensor,
        noise_precision: Tensor,
        mask: Tensor,
        prior_mean: Tensor,
        prior_precision: Tensor,
    ) -> Posterior:
        """Condition on a batch of supports.

        Args:
            vectors: ``V``, ``[B, S, d]``.
            targets: ``y``, ``[B, S]``.
            noise_precision: ``beta`` of each entry, ``[B, S]`` or broadcastable.
            mask: True where an entry is real, ``[B, S]``.
            prior_mean: ``m``, ``[B, d]``.
            prior_precision: ``P``, ``[B, d, d]``, symmetric positive definite.
        """
        prior_mean, prior_precision = prior_mean.to(vectors), prior_precision.to(vectors)
        weighted = vectors * (noise_precision * mask).unsqueeze(-1)
        precision = prior_precision + weighted.mT @ vectors
        factor = torch.linalg.cholesky(precision)
        prior_pull = (prior_precision @ prior_mean.unsqueeze(-1)).squeeze(-1)
        pull = prior_pull + (weighted * targets.unsqueeze(-1)).sum(dim=1)
        mean = torch.cholesky_solve(pull.unsqueeze(-1), factor).squeeze(-1)
        return cls(factor, prior_pull, weighted, targets, mean)

    @property
    def covariance(self) -> Tensor:
        """``A^-1``, ``[B, d, d]``; made when asked for, never kept."""
        return torch.cholesky_inverse(self.factor)

    def variance(self, vectors: Tensor) -> Tensor:
        """``v' A^-1 v`` of the preference, without noise.

        Args:
            vectors: One set a user ``[B, K, d]``, or one for all ``[I, d]``.

        Returns:
            ``[B, K]`` or ``[B, I]``.
        """
        if vectors.dim() == 3:
            half = torch.linalg.solve_triangular(self.factor, vectors.mT, upper=False)
            variance: Tensor = half.square().sum(dim=1)
            return variance
        # One GEMM a dimension: [B, I, d] would be d times as large as what is returned.
        eye = torch.eye(vectors.shape[1], dtype=vectors.dtype, device=vectors.device)
        inverse = torch.linalg.solve_triangular(self.factor, eye, upper=False)
        total = vectors.new_zeros(len(inverse), len(vectors))
        for row in inverse.unbind(dim=1):
            total += (row @ vectors.mT).square()
        return total

    def shares(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Split ``v' mean`` into the prior's part and one part a support entry.

        Args:
            vectors: ``[B, K, d]``.

        Returns:
            ``v' A^-1 P m`` ``[B, K]`` and ``beta_s y_s v' A^-1 v_s`` ``[B, K, S]``.
        """
        solved = torch.cholesky_solve(vectors.mT, self.factor)
        prior = (self.prior_pull.unsqueeze(1) @ solved).squeeze(1)
        support = (self.weighted * self.targets.unsqueeze(-1)) @ solved
        return prior, support.mT
