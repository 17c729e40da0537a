"""What gradient-based meta-learning predicts for a batch of users."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from metarec_core.episodes.types import Support
from metarec_core.learners.base import Shares
from metarec_core.learners.item_net import ItemTable
from metarec_core.learners.leave_out import LeaveOut
from metarec_core.learners.maml_net import MamlNet, Variant, adapt_batch

_TILE = 1 << 17
"""Forecasts made at once over the whole catalogue: each has a row of hidden units."""


class MamlPredictor:
    """The adapted layers and list vectors of ``B`` users."""

    def __init__(
        self,
        net: MamlNet,
        table: ItemTable,
        support: Support,
        *,
        steps: int,
        variant: Variant,
        explicit: bool,
        others: LeaveOut,
    ) -> None:
        self._net, self._table, self._explicit = net, table, explicit
        wide = Support(
            support.items, support.values.double(), support.mask, support.user_features.double()
        )
        self._fast, self._user = adapt_batch(
            net,
            table,
            wide,
            steps=steps,
            variant=variant,
            explicit=explicit,
        )
        self._support, self._others = support, others
        self._extra = net.extra_variance(support.sizes).unsqueeze(-1)

    @property
    def query(self) -> Tensor:
        """The list vector that the steps led to, ``[B, e]``."""
        return self._fast["list"]

    def scores(self, items: Tensor | None = None) -> Tensor:
        """List scores, ``[B, K]`` or ``[B, I]``."""
        table, own = self._table, self._fast["list"]
        if items is None:
            return table.appeal + own @ table.exposure.mT
        return table.appeal[items] + (table.exposure[items] @ own.unsqueeze(-1)).squeeze(-1)

    def mean_var(self, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Predicted rating and predictive variance; NaN for implicit feedback."""
        n_items = len(self._table.bias)
        shape = (len(self._user), n_items) if items is None else items.shape
        if not self._explicit:
            nothing = torch.full(shape, torch.nan, dtype=self._user.dtype, device=self._user.device)
            return nothing, nothing.clone()
        tiles = [items] if items is not None else list(self._tiles(n_items))
        means, variances = zip(*map(self._forecast, tiles), strict=True)
        return torch.cat(means, dim=1), torch.cat(variances, dim=1)

    def _tiles(self, n_items: int) -> Iterator[Tensor]:
        """The whole catalogue for each user, a few items at once."""
        n_users = len(self._user)
        every = torch.arange(n_items, device=self._user.device)
        width = max(1, _TILE // max(n_users, 1))
        for first in range(0, n_items, width):
            yield every[first : first + width].expand(n_users, -1)

    def _forecast(self, items: Tensor) -> tuple[Tensor, Tensor]:
        net, table = self._net, self._table
        with torch.no_grad():
            own = net.forecast(self._fast, table.taste[items], self._user)
        variance = net.unit.square() * (table.noise[items] + self._extra)
        return net.mu + net.unit * (table.bias[items] + own), variance

    def shares(self, items: Tensor) -> Shares:
        """An item's appeal to anyone is its own; what the list vector brings is ``beyond``."""
        appeal = self._table.appeal[items]
        return Shares(
            item=appeal,
            prior=torch.zeros_like(appeal),
            support=appeal.new_zeros(*appeal.shape, self._support.items.shape[1]),
            beyond=self.scores(items) - appeal,
        )

    def without(self, items: Tensor | None, entries: Tensor) -> Tensor:
        """Scores after the steps without each of some support entries, ``[B, K, N]``."""
        return self._others.without(self.scores(items), items, entries)

    def hints(self, items: Tensor) -> Tensor:
        """How alike each support entry is to ``items`` in exposure vectors, ``[B, S]``."""
        exposure = self._table.exposure
        alike = exposure[items] @ exposure[self._support.items].mT
        return alike.abs().sum(dim=1) * self._support.mask

    def deletions(self, items: Tensor, entries: Tensor) -> Tensor:
        """What scores lose without each of some support entries, ``[B, K, N]``."""
        return self.scores(items).unsqueeze(-1) - self.without(items, entries)
