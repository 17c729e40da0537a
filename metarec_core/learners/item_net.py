"""Item vectors from id and content: what the networks of several learners begin with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from metarec_core.episodes.types import Support, TaskData
from metarec_core.learners.bias import Bias, BiasConfig
from metarec_core.learners.item_statistics import ItemStatistics, StatisticsOfOthers

_MIN_NOISE = 1e-3


class ItemTable(NamedTuple):
    """What a network knows of each item; the first dimension is the catalogue.

    Attributes:
        taste: Vectors that ratings are forecast from, ``[I, d]``, ending in a constant 1.
        bias: ``b_i``, ``[I]``, in units of the residual's standard deviation.
        noise: Variance of a rating around its mean, ``[I]``, in squared units; larger for little
            known items.
        exposure: Vectors that choices are forecast from, ``[I, e]``.
        appeal: What makes an item chosen by anyone, ``[I]``.
        lift: What having chosen the item, whatever its rating, says of a taste, ``[I, l]``.
    """

    taste: Tensor
    bias: Tensor
    noise: Tensor
    exposure: Tensor
    appeal: Tensor
    lift: Tensor


@dataclass(frozen=True, slots=True)
class NetSizes:
    """Shapes of the network."""

    n_items: int
    item_features: int
    user_features: int
    taste: int
    exposure: int
    hidden: int
    lift: int = 0


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


class ItemNet(nn.Module):
    """Item vectors ``keep_i n_i / (n_i + c) E_i + f(c_i)``.

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
        width = sizes.lift + sizes.taste + sizes.exposure + 3
        self.ids = nn.Parameter(torch.randn(sizes.n_items, width) * 0.1)
        self.content = ContentEncoder(sizes.item_features, sizes.hidden, width)
        self.cold_noise = nn.Parameter(torch.zeros(()))
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
            self.ids[:, : self.sizes.lift] = 0.0
            self.content.skip[: self.sizes.lift] = 0.0
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
        parts = [self.sizes.lift, self.sizes.taste, self.sizes.exposure, 3]
        lift, taste, exposure, rest = raw.split(parts, dim=-1)
        bias, noise, appeal = rest.unbind(dim=-1)
        cold = (1.0 - known) * functional.softplus(self.cold_noise)
        return ItemTable(
            taste=torch.cat([taste, torch.ones_like(taste[:, :1])], dim=-1),
            bias=known * statistics.mean_residual() + bias,
            noise=functional.softplus(noise) + cold + _MIN_NOISE,
            exposure=exposure,
            appeal=keep * statistics.log_share() + appeal,
            lift=lift,
        )


def start_from_baselines(net: ItemNet, data: TaskData, device: torch.device) -> StatisticsOfOthers:
    """Begin at damped biases and popularity of ``data``; returns what each item is known for."""
    bias = Bias(BiasConfig(item_shrinkage=net.item_shrinkage))
    user_bias = bias.fit_biases(data)
    unit = bias.noise.sqrt()
    others = StatisticsOfOthers.of(data, bias.mu, unit, user_bias, device)
    net.start_from(bias.mu, unit, others.whole)
    return others
