"""What the closed-form Gaussian predicts for a batch of users."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metarec_core.episodes.types import Support
from metarec_core.learners.base import Shares
from metarec_core.learners.gaussian_net import GaussianNet
from metarec_core.learners.item_net import ItemTable
from metarec_core.learners.posterior import contrasts, products


class GaussianListPredictor:
    """Both posteriors of ``B`` users.

    Attributes:
        mean: Mean of the taste preference, ``[B, d + 1]``.
        covariance: Its covariance, ``[B, d + 1, d + 1]``.
    """

    def __init__(
        self, net: GaussianNet, table: ItemTable, support: Support, explicit: bool
    ) -> None:
        self._explicit = explicit
        self._mu, self._unit = net.mu.double(), net.unit.double()
        self._weight = rating_weight(net, explicit)
        self._table = table
        wide = Support(
            support.items,
            support.values.double(),
            support.mask,
            support.user_features,
        )
        self._taste = net.taste_posterior(self._table, wide)
        self._choice = net.exposure_posterior(self._table, wide)

    @property
    def mean(self) -> Tensor:
        """Mean of the taste preference, ``[B, d + 1]``."""
        return self._taste.mean

    @property
    def covariance(self) -> Tensor:
        """Covariance of the taste preference, ``[B, d + 1, d + 1]``."""
        return self._taste.covariance

    @property
    def query(self) -> Tensor:
        """What :meth:`Gaussian.item_factors` are multiplied with, ``[B, e (+ d + 1)]``."""
        if not self._explicit:
            return self._choice.mean
        return torch.cat([self._choice.mean, self._weight * self._taste.mean], dim=1)

    def scores(self, items: Tensor | None = None) -> Tensor:
        """List scores, ``[B, K]`` or ``[B, I]``."""
        table = self._table
        taste = _dot(self._taste.mean, table.taste, items)
        choice = _dot(self._choice.mean, table.exposure, items)
        return _at(table.appeal, items) + choice + self._weight * (_at(table.bias, items) + taste)

    def mean_var(self, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Predicted rating and predictive variance; NaN for implicit feedback."""
        table = self._table
        standard = _at(table.bias, items) + _dot(self._taste.mean, table.taste, items)
        if not self._explicit:
            return torch.full_like(standard, torch.nan), torch.full_like(standard, torch.nan)
        vectors = table.taste if items is None else table.taste[items]
        variance = self._taste.variance(vectors) + _at(table.noise, items)
        return self._mu + self._unit * standard, self._unit.square() * variance

    def left_out(self) -> Tensor:
        """Squared standardised errors of the support's ratings, each forecast from the others."""
        return self._taste.left_out()

    def shares(self, items: Tensor) -> Shares:
        """Exact additive shares of both heads together."""
        table = self._table
        taste_prior, taste_support = self._taste.shares(table.taste[items])
        choice_prior, choice_support = self._choice.shares(table.exposure[items])
        return Shares(
            item=table.appeal[items] + self._weight * table.bias[items],
            prior=choice_prior + self._weight * taste_prior,
            support=choice_support + self._weight * taste_support,
        )

    def without(self, items: Tensor | None, entries: Tensor) -> Tensor:
        """Scores without each of some support entries, ``[B, K, N]``, in closed form."""
        table = self._table
        taste = products(table.taste, self._taste.means_without(entries), items)
        choice = products(table.exposure, self._choice.means_without(entries), items)
        own = _at(table.appeal, items) + self._weight * _at(table.bias, items)
        return own.unsqueeze(-1) + choice + self._weight * taste

    def contrast_variance(self, groups: Tensor) -> Tensor:
        """Variance of groups' mean scores less that of the catalogue, ``[B, G]``."""
        table = self._table
        choice = self._choice.variance(contrasts(groups, table.exposure))
        taste = self._taste.variance(contrasts(groups, table.taste))
        return choice + self._weight.square() * taste

    def score_covariance(self, items: Tensor) -> Tensor:
        """Covariance of list scores under both posteriors, ``[B, P, P]``.

        The heads have preferences of their own, which are independent in the model.
        """
        choice = self._choice.joint(self._table.exposure[items])
        return choice + self._weight.square() * self._taste.joint(self._table.taste[items])


def rating_weight(net: nn.Module, explicit: bool) -> Tensor:
    """``g``: how much the forecast of a rating counts in lists; 0 for implicit feedback."""
    assert isinstance(net, GaussianNet)
    return net.rating_weight.detach().double() * float(explicit)


def _at(values: Tensor, items: Tensor | None) -> Tensor:
    return values if items is None else values[items]


def _dot(weights: Tensor, vectors: Tensor, items: Tensor | None) -> Tensor:
    if items is None:
        return weights @ vectors.mT
    return (vectors[items] @ weights.unsqueeze(-1)).squeeze(-1)
