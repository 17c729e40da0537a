"""User and item biases: the simplest forecast of a rating that knows both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor

from metarec_core.episodes.types import Support, TaskData
from metarec_core.learners.base import FitContext, FitReport, ItemFactors, Shares
from metarec_core.search import Distribution, Uniform
from metarec_core.section import Section

_EPSILON = 1e-6


class BiasConfig(Section):
    """User and item biases, both shrunk."""

    search: ClassVar[Mapping[str, Distribution]] = {
        "item_shrinkage": Uniform(0.1, 100.0, log=True),
        "user_shrinkage": Uniform(0.1, 100.0, log=True),
    }

    item_shrinkage: float = Field(5.0, ge=0.0, le=1000.0)
    """Pseudo-ratings at the global mean that pull each item's bias to 0."""

    user_shrinkage: float = Field(3.0, ge=0.0, le=1000.0)
    """Pseudo-ratings at the item biases that pull each user's bias to 0."""

    sweeps: int = Field(10, ge=1, le=100)
    """Alternations between user and item biases."""


class Bias:
    """``rating(u, i) = mu + b_i + b_u``, ``b_u = sum_s (r_s - mu - b_s) / (n + shrinkage)``.

    The damped baseline of Koren (2008, "Factorization Meets the Neighborhood", section 2.1),
    with ``b_u`` computed from the support alone, so that a new user needs no training. The
    predictive variance is the residual variance plus those of both biases. Inference is in float64.
    """

    name: ClassVar[str] = "bias"
    reads_features: ClassVar[bool] = False
    Config: ClassVar[type[Section]] = BiasConfig

    def __init__(self, config: Section) -> None:
        assert isinstance(config, BiasConfig)
        self.config = config
        self.item_bias = torch.zeros(0)
        self.item_count = torch.zeros(0)
        self.mu = torch.zeros(())
        self.noise = torch.ones(())

    def fit(self, train: TaskData, validation: TaskData, context: FitContext) -> FitReport:
        """Alternate damped means of residuals; nothing is chosen on ``validation``."""
        self.fit_biases(train)
        return FitReport(facts={"mu": float(self.mu), "residual_sd": float(self.noise.sqrt())})

    def fit_biases(self, train: TaskData) -> Tensor:
        """Fit mean, item biases and residual variance; returns the users' biases, ``[U]``."""
        matrix = train.interactions
        items = torch.from_numpy(matrix.items)
        values = torch.from_numpy(matrix.values).double()
        users = torch.repeat_interleave(
            torch.arange(matrix.n_users), torch.from_numpy(matrix.counts())
        )
        mu = values.mean()
        item_bias = torch.zeros(train.n_items, dtype=torch.float64)
        user_bias = torch.zeros(matrix.n_users, dtype=torch.float64)
        for _ in range(self.config.sweeps):
            item_bias, item_count = _damped_mean(
                values - mu - user_bias[users], items, train.n_items, self.config.item_shrinkage
            )
            user_bias, _ = _damped_mean(
                values - mu - item_bias[items], users, matrix.n_users, self.config.user_shrinkage
            )
        residual = values - mu - item_bias[items] - user_bias[users]
        self.mu, self.noise = mu.float(), residual.var(correction=0).clamp_min(_EPSILON).float()
        self.item_bias, self.item_count = item_bias.float(), item_count.float()
        return user_bias.float()

    def adapt(self, support: Support) -> BiasPredictor:
        """Each user's bias from the support's residuals."""
        return BiasPredictor(self, support)

    def item_factors(self) -> ItemFactors:
        """``mu + b_i``, and a constant 1 that the user's bias is multiplied with."""
        bias = self.item_bias.double()
        return ItemFactors(torch.ones_like(bias)[:, None], self.mu.double() + bias)

    def state(self) -> dict[str, Tensor]:
        """``mu`` and ``noise`` (scalars), ``item_bias`` and ``item_count`` ``[I]``."""
        return {
            "mu": self.mu.cpu(),
            "noise": self.noise.cpu(),
            "item_bias": self.item_bias.cpu(),
            "item_count": self.item_count.cpu(),
        }

    @classmethod
    def from_state(cls, config: Section, state: Mapping[str, Tensor], device: torch.device) -> Self:
        """The learner that :meth:`state` was taken from."""
        learner = cls(config)
        learner.mu, learner.noise = state["mu"].to(device), state["noise"].to(device)
        learner.item_bias = state["item_bias"].to(device)
        learner.item_count = state["item_count"].to(device)
        return learner


class BiasPredictor:
    """Ratings of ``B`` users."""

    def __init__(self, learner: Bias, support: Support) -> None:
        device = support.items.device
        self._mu, self._noise, self._bias, self._count = (
            learned.to(device).double()
            for learned in (learner.mu, learner.noise, learner.item_bias, learner.item_count)
        )
        self._config = learner.config
        residual = (support.values.double() - self._mu - self._bias[support.items]) * support.mask
        weight = self._weight(support.sizes.double())
        self._residual, self._sizes, self._mask = residual, support.sizes.double(), support.mask
        self._support_share = residual / weight[:, None]
        self._user_var = self._noise / weight.clamp_min(1.0)

    def _weight(self, sizes: Tensor) -> Tensor:
        return (sizes + self._config.user_shrinkage).clamp_min(_EPSILON)

    @property
    def query(self) -> Tensor:
        """The user's bias, ``[B, 1]``."""
        return self._support_share.sum(dim=1, keepdim=True)

    def scores(self, items: Tensor | None = None) -> Tensor:
        """The predicted value, ``[B, K]`` or ``[B, I]``."""
        item = self._mu + (self._bias[None] if items is None else self._bias[items])
        return item + self.query

    def mean_var(self, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Predicted value and predictive variance, ``[B, K]`` or ``[B, I]``."""
        mean = self.scores(items)
        count = self._count[None] if items is None else self._count[items]
        item_var = self._noise / (count + self._config.item_shrinkage).clamp_min(1.0)
        return mean, self._noise + self._user_var[:, None] + item_var.expand_as(mean)

    def shares(self, items: Tensor) -> Shares:
        """``mu + b_i`` is the item's; each support interaction moves the user's bias."""
        item = self._mu + self._bias[items]
        support = self._support_share[:, None, :].expand(-1, items.shape[1], -1)
        return Shares(item=item, prior=torch.zeros_like(item), support=support)

    def without(self, items: Tensor | None, entries: Tensor) -> Tensor:
        """Values without each of some support entries, ``[B, K, N]``."""
        if self._residual.shape[1] == 0:
            return self.scores(items).unsqueeze(-1).expand(-1, -1, entries.shape[1])
        places = entries.clamp_min(0)
        gone = (entries >= 0) & self._mask.gather(1, places)
        left = self._residual.sum(dim=1, keepdim=True) - self._residual.gather(1, places) * gone
        user = left / self._weight(self._sizes[:, None] - gone.double())
        item = self._mu + (self._bias[None] if items is None else self._bias[items])
        return item.unsqueeze(-1) + user.unsqueeze(1)


def _damped_mean(
    values: Tensor, groups: Tensor, n_groups: int, shrinkage: float
) -> tuple[Tensor, Tensor]:
    count = torch.bincount(groups, minlength=n_groups).double()
    total = torch.zeros(n_groups, dtype=torch.float64).index_add_(0, groups, values)
    return total / (count + shrinkage).clamp_min(_EPSILON), count
