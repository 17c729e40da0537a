"""The network behind the closed-form Gaussian: item vectors from id and content, user priors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from metarec_core.episodes.types import Support
from metarec_core.learners.item_statistics import ItemStatistics
from metarec_core.learners.posterior import Posterior

_MIN_NOISE = 1e-3
_FARTHEST = 5.0


class ItemTable(NamedTuple):
    """What the two heads know of each item; the first dimension is the catalogue.

    Attributes:
        taste: Vectors of the rating head, ``[I, d]``, ending in a constant 1.
        bias: ``b_i``, ``[I]``, in units of the residual's standard deviation.
        noise: Variance of a rating around its mean, ``[I]``, in squared units; larger for little
            known items.
        exposure: Vectors of the exposure head, ``[I, e]``.
        appeal: What makes an item chosen by anyone, ``[I]``.
    """

    taste: Tensor
    bias: Tensor
    noise: Tensor
    exposure: Tensor
    appeal: Tensor


class Prior(NamedTuple):
    """A Gaussian prior of each user: mean ``[B, d]`` and precision ``[B, d, d]``."""

    mean: Tensor
    precision: Tensor


@dataclass(frozen=True, slots=True)
class NetSizes:
    """Shapes of the network."""

    n_items: int
    item_features: int
    user_features: int
    taste: int
    exposure: int
    hidden: int


class ContentEncoder(nn.Module):
    """``W x + V gelu(U x + c) + b``; ``V`` starts at zero. ``n_in`` may be 0 (no features)."""

    def __init__(self, n_in: int, hidden: int, n_out: int) -> None:
        super().__init__()
        self.skip = nn.Parameter(torch.randn(n_out, n_in) * 0.02)
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.inner = nn.Parameter(torch.randn(hidden, n_in) * max(n_in, 1) ** -0.5)
        self.inner_bias = nn.Parameter(torch.zeros(hidden))
        self.outer = nn.Parameter(torch.zeros(n_out, hidden))

    def forward(self, x: Tensor) -> Tensor:
        """``[N, n_in]`` to ``[N, n_out]``."""
        hidden = functional.gelu(functional.linear(x, self.inner, self.inner_bias))
        return functional.linear(x, self.skip, self.bias) + functional.linear(hidden, self.outer)


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


class GaussianNet(nn.Module):
    """Two Gaussian heads over item vectors ``keep_i n_i / (n_i + c) E_i + f(c_i)``.

    The *taste* head forecasts ratings; the *exposure* head says what a user would choose at all.
    An id embedding counts as much as its item's ``n_i`` interactions support: gradient steps
    that are scaled to each parameter would otherwise fit the ratings of a rare item by heart.
    """

    mu: Tensor
    unit: Tensor
    met: Tensor
    residual: Tensor
    liked: Tensor

    def __init__(self, sizes: NetSizes, item_shrinkage: float) -> None:
        super().__init__()
        self.sizes = sizes
        self.item_shrinkage = item_shrinkage
        width = sizes.taste + sizes.exposure + 3
        self.ids = nn.Parameter(torch.randn(sizes.n_items, width) * 0.1)
        self.content = ContentEncoder(sizes.item_features, sizes.hidden, width)
        self.taste_prior = PriorNet(sizes.user_features, sizes.hidden, sizes.taste + 1)
        self.exposure_prior = PriorNet(sizes.user_features, sizes.hidden, sizes.exposure)
        self.cold_noise = nn.Parameter(torch.zeros(()))
        self.exposure_log_beta = nn.Parameter(torch.zeros(()))
        self.exposure_target = nn.Parameter(torch.tensor([1.0, 0.2]))
        self.rating_weight = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("mu", torch.zeros(()))
        self.register_buffer("unit", torch.ones(()))
        for name in ItemStatistics._fields:
            self.register_buffer(name, torch.zeros(sizes.n_items))

    @property
    def statistics(self) -> ItemStatistics:
        """Statistics of all training users: what a new user meets."""
        return ItemStatistics(self.met, self.residual, self.liked)

    def start_from(self, mu: Tensor, unit: Tensor, statistics: ItemStatistics) -> None:
        """Begin at the simple baselines: damped item biases, residual noise, log popularity.

        Args:
            mu: Mean value, scalar.
            unit: Standard deviation of values around the biases, scalar: values are learned in
                this unit, whatever their scale.
            statistics: Of the training users, residuals in ``unit``.
        """
        with torch.no_grad():
            self.mu.copy_(mu)
            self.unit.copy_(unit)
            for own, given in zip(self.statistics, statistics, strict=True):
                own.copy_(given)
            self.ids[:, -3:] = 0.0
            # softplus of it is a variance of 1, in squared units.
            self.content.bias[-2] = math.log(math.expm1(1.0))

    def residual_of(self, table: ItemTable, support: Support) -> Tensor:
        """``(r_s - mu) / unit - b_s`` of each support entry, ``[B, S]``."""
        return (support.values - self.mu) / self.unit - table.bias[support.items]

    def items(
        self,
        item_features: Tensor,
        statistics: ItemStatistics | None = None,
        keep: Tensor | None = None,
    ) -> ItemTable:
        """Vectors of the whole catalogue.

        Args:
            item_features: ``[I, Fi]``.
            statistics: What is known of each item; that of all training users by default.
            keep: 0 where the item is treated as new: without id part and statistics, ``[I]``.
        """
        statistics = statistics or self.statistics
        keep = torch.ones_like(self.met) if keep is None else keep
        known = keep * statistics.reliability(self.item_shrinkage)
        raw = known.unsqueeze(-1) * self.ids + self.content(item_features)
        taste, exposure, rest = raw.split([self.sizes.taste, self.sizes.exposure, 3], dim=-1)
        bias, noise, appeal = rest.unbind(dim=-1)
        cold = (1.0 - known) * functional.softplus(self.cold_noise)
        return ItemTable(
            taste=torch.cat([taste, torch.ones_like(taste[:, :1])], dim=-1),
            bias=known * statistics.mean_residual() + bias,
            noise=functional.softplus(noise) + cold + _MIN_NOISE,
            exposure=exposure,
            appeal=keep * statistics.log_share() + appeal,
        )

    def taste_posterior(self, table: ItemTable, support: Support) -> Posterior:
        """What the support's ratings say of each user's taste, ``d + 1`` dimensions."""
        prior = self.taste_prior(support.user_features)
        items = support.items
        return Posterior.of(
            table.taste[items],
            self.residual_of(table, support) * support.mask,
            1.0 / table.noise[items],
            support.mask,
            *prior,
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
            table.exposure[items],
            target * support.mask,
            self.exposure_log_beta.exp(),
            support.mask,
            *prior,
        )
