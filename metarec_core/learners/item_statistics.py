"""What training users say of each item, as sums that a task can be taken out of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from metarec_core.episodes.types import Episode, TaskData


class ItemStatistics(NamedTuple):
    """Sums over interactions, by item.

    Attributes:
        met: Interactions, ``[I]``.
        residual: Sum of ``(r - mu - b_u) / unit``, ``[I]``.
        liked: Relevant interactions, ``[I]``.
    """

    met: Tensor
    residual: Tensor
    liked: Tensor

    def reliability(self, shrinkage: float) -> Tensor:
        """``n_i / (n_i + shrinkage)``: how much an item's own interactions count, ``[I]``."""
        return self.met / (self.met + shrinkage)

    def mean_residual(self) -> Tensor:
        """Mean residual, ``[I]``; 0 where nothing is left."""
        return self.residual / self.met.clamp_min(1.0)

    def log_share(self) -> Tensor:
        """Log of each item's share of relevant interactions, centred, ``[I]``; 0 if unseen."""
        log_share = torch.log(self.liked + 0.5)
        return (log_share - log_share.mean()) * (self.met > 0)


@dataclass(frozen=True, slots=True)
class StatisticsOfOthers:
    """Item statistics as a new user would meet them: without that user's own interactions.

    Attributes:
        whole: Statistics of all training users.
        mu: Mean value, scalar.
        unit: What residuals are measured in, scalar.
        user_bias: Bias of each training user, ``[U]``, in values.
        relevant_from: Values from here on are relevant.
    """

    whole: ItemStatistics
    mu: Tensor
    unit: Tensor
    user_bias: Tensor
    relevant_from: float

    @classmethod
    def of(
        cls,
        data: TaskData,
        mu: Tensor,
        unit: Tensor,
        user_bias: Tensor,
        device: torch.device,
    ) -> StatisticsOfOthers:
        """Sum over the tasks of ``data``, the users that episodes are drawn from."""
        matrix = data.interactions
        users = torch.arange(matrix.n_users).repeat_interleave(torch.from_numpy(matrix.counts()))
        empty = ItemStatistics(*(torch.zeros(data.n_items) for _ in range(3)))
        whole = _add(
            empty,
            torch.from_numpy(matrix.items),
            torch.from_numpy(matrix.values),
            (torch.from_numpy(matrix.values) - mu - user_bias[users]) / unit,
            data.scale.relevant_from,
            sign=1.0,
        )
        on_device = ItemStatistics(*(tensor.to(device) for tensor in whole))
        return cls(
            on_device,
            mu.to(device),
            unit.to(device),
            user_bias.to(device),
            data.scale.relevant_from,
        )

    def without(self, episode: Episode) -> ItemStatistics:
        """Statistics without the supports and queries of a batch of training tasks."""
        support = episode.support
        left = self.whole
        for items, values, mask in (
            (support.items, support.values, support.mask),
            (episode.items, episode.values, episode.mask),
        ):
            own = self.user_bias[episode.users].unsqueeze(1)
            residual = (values - self.mu - own) / self.unit
            left = _add(
                left, items[mask], values[mask], residual[mask], self.relevant_from, sign=-1.0
            )
        # Sums of floats do not return to exactly zero.
        return left._replace(met=left.met.clamp_min(0), liked=left.liked.clamp_min(0))


def _add(
    sums: ItemStatistics,
    items: Tensor,
    values: Tensor,
    residual: Tensor,
    relevant_from: float,
    *,
    sign: float,
) -> ItemStatistics:
    one = torch.full_like(values, sign)
    return ItemStatistics(
        met=sums.met.index_add(0, items, one),
        residual=sums.residual.index_add(0, items, sign * residual),
        liked=sums.liked.index_add(0, items, one * (values >= relevant_from)),
    )
