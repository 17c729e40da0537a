"""The network behind the closed-form Gaussian: two heads over item vectors, and user priors."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from metarec_core.episodes.types import Support
from metarec_core.learners.item_net import ContentEncoder, ItemNet, ItemTable, NetSizes
from metarec_core.learners.posterior import Lifts, Posterior, entries

_FARTHEST = 5.0


class Prior(NamedTuple):
    """A Gaussian prior of each user: mean ``[B, d]`` and precision ``[B, d, d]``."""

    mean: Tensor
    precision: Tensor


class PriorNet(nn.Module):
    """``N(m(x), D(x)^-1 C C' D(x)^-1 as precision)``: mean and scales from user features.

    ``C`` is one lower triangular factor shared by all users, ``D(x)`` a positive diagonal.
    """

    def __init__(self, user_features: int, hidden: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.encoder = ContentEncoder(user_features, hidden, 2 * dim)
        nn.init.zeros_(self.encoder.skip)
        self.factor = nn.Parameter(torch.zeros(dim, dim))

    def forward(self, user_features: Tensor) -> Prior:
        """Priors of ``[B, Fu]`` users."""
        mean, log_scale = self.encoder(user_features).split([self.dim] * 2, dim=-1)
        lower = self.factor.tril(-1) + torch.diag(self.factor.diagonal().exp())
        scaled = lower * torch.exp(-log_scale.clamp(-4.0, 4.0)).unsqueeze(-1)
        return Prior(mean, scaled @ scaled.mT)


class GaussianNet(ItemNet):
    """Two Gaussian heads over item vectors.

    The *taste* head forecasts ratings; the *exposure* head says what a user would choose at all.
    """

    def __init__(self, sizes: NetSizes, item_shrinkage: float) -> None:
        super().__init__(sizes, item_shrinkage)
        self.taste_prior = PriorNet(sizes.user_features, sizes.hidden, sizes.taste + 1)
        self.exposure_prior = PriorNet(sizes.user_features, sizes.hidden, sizes.exposure)
        self.exposure_log_beta = nn.Parameter(torch.zeros(()))
        self.exposure_target = nn.Parameter(torch.tensor([1.0, 0.2]))
        self.rating_weight = nn.Parameter(torch.tensor(0.5))

    def taste_posterior(self, table: ItemTable, support: Support) -> Posterior:
        """What the support's ratings, and its items alone, say of each user's taste, ``[d + 1]``.

        The prior mean moves by ``sum_s l_s / sqrt(1 + k)``: what is rated at all is informative
        (NSVD, Paterek 2007; SVD++, Koren 2008).
        """
        prior = self.taste_prior(support.user_features)
        items = support.items
        sizes = support.sizes.to(table.lift)
        weight = (1.0 + sizes).rsqrt().unsqueeze(-1) * support.mask
        regrowth = (1.0 + 1.0 / sizes.clamp_min(1.0)).sqrt()
        lifts = Lifts(table.lift, items, weight, regrowth) if table.lift.shape[1] else None
        return Posterior.of(
            entries(table.taste, items),
            self.residual_of(table, support) * support.mask,
            1.0 / table.noise[items],
            support.mask,
            prior.mean,
            prior.precision,
            lifts,
        )

    def exposure_posterior(self, table: ItemTable, support: Support) -> Posterior:
        """What the support says of what each user chooses.

        A chosen item is an observation of ``a_0 + a_1 y_s``, ``y_s`` its residual, at most
        some standard deviations: event weights may have long tails.
        """
        prior = self.exposure_prior(support.user_features)
        items = support.items
        residual = self.residual_of(table, support).clamp(-_FARTHEST, _FARTHEST)
        target = self.exposure_target[0] + self.exposure_target[1] * residual
        return Posterior.of(
            entries(table.exposure, items),
            target * support.mask,
            self.exposure_log_beta.exp(),
            support.mask,
            *prior,
        )
