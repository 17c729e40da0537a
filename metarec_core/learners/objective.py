"""What the training loop minimises, for networks that forecast ratings and order lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from metarec_core.episodes.sampling import evaluation_episodes
from metarec_core.episodes.types import Episode, TaskData
from metarec_core.learners.base import FitContext
from metarec_core.learners.item_net import ItemNet, ItemTable
from metarec_core.learners.item_statistics import StatisticsOfOthers

_VALIDATION_SUPPORTS = (0, 1, 2, 5, 10, 20, 40)
_VALIDATION_BATCH = 256

Parts = Mapping[str, tuple[Tensor, Tensor]]
"""Sum and number of terms of each part of a loss: ``nll``, ``mae``, ``list_nll``,
and ``pull``, what draws a network towards its adapted weights."""


@dataclass(frozen=True, slots=True)
class LossWeights:
    """How much each part of the loss counts beside the likelihood of ratings.

    Attributes:
        lists: Of the softmax over the catalogue.
        absolute: Of the mean absolute error.
        id_dropout: Chance that an item's id part is dropped in a training step.
    """

    lists: float
    absolute: float
    id_dropout: float


class Objective:
    """``nll + absolute mae / unit + lists list_nll + pull`` of training and validation tasks.

    Args:
        net: The network.
        weights: Of the parts.
        others: Item statistics that a batch is taken out of before it is judged.
        parts: The parts of the loss of a batch, given the network and its item table.
        validation: Tasks that choose the epoch, at several support sizes.
        context: Seed and device.
    """

    def __init__(
        self,
        net: ItemNet,
        weights: LossWeights,
        others: StatisticsOfOthers,
        parts: Callable[[Any, ItemTable, Episode], Parts],
        validation: TaskData,
        context: FitContext,
    ) -> None:
        self.net: nn.Module = net
        self._weights = weights
        self._others = others
        self._parts = parts
        self._device = context.device
        # The catalogue is one and the same for all users.
        self.item_features = torch.from_numpy(validation.item_features).to(context.device)
        self._tasks = evaluation_episodes(
            validation,
            np.arange(validation.n_users),
            support_sizes=[size for size in _VALIDATION_SUPPORTS if size <= context.max_support],
            max_query=context.max_query,
            seed=context.seed,
        )

    def loss(self, net: nn.Module, episode: Episode, generator: torch.Generator) -> Tensor:
        """Mean over the batch's targets, so that a task weighs as much as it asks."""
        assert isinstance(net, ItemNet)
        statistics = self._others.without(episode)
        drop = torch.rand(len(net.met), generator=generator).to(self._device)
        keep = (drop >= self._weights.id_dropout).float()
        table = net.items(self.item_features, statistics, keep)
        parts = self._parts(net, table, episode)
        means = {name: value / count for name, (value, count) in parts.items()}
        return self._total(net, means)

    def validate(self, net: nn.Module) -> Mapping[str, float]:
        """The same loss over all validation tasks, and its parts."""
        assert isinstance(net, ItemNet)
        sums: dict[str, tuple[float, float]] = {}
        with torch.no_grad():
            table = net.items(self.item_features)
            for batch in self._tasks.batches(_VALIDATION_BATCH):
                parts = self._parts(net, table, batch.episode.to(self._device))
                for name, (value, count) in parts.items():
                    total, n = sums.get(name, (0.0, 0.0))
                    sums[name] = (total + float(value), n + float(count))
        means = {name: value / max(count, 1.0) for name, (value, count) in sums.items()}
        loss = self._total(net, {name: torch.tensor(value) for name, value in means.items()})
        return {"loss": float(loss), **means}

    def _total(self, net: ItemNet, parts: Mapping[str, Tensor]) -> Tensor:
        weights = {"list_nll": self._weights.lists, "nll": 1.0, "pull": 1.0}
        terms = [weight * parts[name] for name, weight in weights.items() if name in parts]
        if "mae" in parts:
            terms.append(self._weights.absolute * (parts["mae"] / net.unit.to(parts["mae"].device)))
        return torch.stack(terms).sum()
