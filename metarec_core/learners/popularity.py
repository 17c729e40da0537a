"""Popularity: rank items by how many training users found them relevant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from torch import Tensor

from metarec_core.episodes.types import Support, TaskData
from metarec_core.learners.base import FitContext, FitReport, ItemFactors, Shares
from metarec_core.learners.fading import liked_counts
from metarec_core.section import Section


class PopularityConfig(Section):
    """Popularity (no settings)."""


class Popularity:
    """``score(u, i) = log(1 + n_i)``, ``n_i`` the training users with a relevant ``i``.

    The same list for everyone, and the baseline that rating forecasts lose to in full ranking.
    """

    name: ClassVar[str] = "popularity"
    reads_features: ClassVar[bool] = False
    Config: ClassVar[type[Section]] = PopularityConfig

    def __init__(self, config: Section) -> None:
        self.config = config
        self.log_counts = torch.zeros(0)

    def fit(self, train: TaskData, validation: TaskData, context: FitContext) -> FitReport:
        """Count relevant interactions; nothing is chosen on ``validation``."""
        counts = liked_counts(train)
        self.log_counts = counts.float().log1p()
        return FitReport(facts={"interactions": float(counts.sum())})

    def adapt(self, support: Support) -> PopularityPredictor:
        """The support changes nothing."""
        return PopularityPredictor(self.log_counts.to(support.items.device), support)

    def item_factors(self) -> ItemFactors:
        """No dimensions: the score is the item's alone."""
        appeal = self.log_counts.double()
        return ItemFactors(appeal.new_zeros(len(appeal), 0), appeal)

    def state(self) -> dict[str, Tensor]:
        """``log_counts``, ``[I]``."""
        return {"log_counts": self.log_counts.cpu()}

    @classmethod
    def from_state(cls, config: Section, state: Mapping[str, Tensor], device: torch.device) -> Self:
        """The learner that :meth:`state` was taken from."""
        learner = cls(config)
        learner.log_counts = state["log_counts"].to(device)
        return learner


class PopularityPredictor:
    """The same scores for each of ``B`` users."""

    def __init__(self, log_counts: Tensor, support: Support) -> None:
        self._log_counts = log_counts
        self._support = support

    @property
    def query(self) -> Tensor:
        """Nothing, ``[B, 0]``."""
        return self._log_counts.new_zeros(len(self._support.items), 0, dtype=torch.float64)

    def scores(self, items: Tensor | None = None) -> Tensor:
        """List scores, ``[B, K]`` or ``[B, I]``."""
        if items is None:
            return self._log_counts.expand(len(self._support.items), -1)
        return self._log_counts[items]

    def mean_var(self, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """NaN: popularity predicts no value."""
        unknown = torch.full_like(self.scores(items), torch.nan)
        return unknown, unknown

    def shares(self, items: Tensor) -> Shares:
        """The whole score is the item's."""
        scores = self.scores(items)
        return Shares(
            item=scores,
            prior=torch.zeros_like(scores),
            support=scores.new_zeros(*scores.shape, self._support.items.shape[1]),
        )

    def without(self, items: Tensor | None, entries: Tensor) -> Tensor:
        """The same scores, ``[B, K, N]``."""
        scores = self.scores(items).double()
        return scores.unsqueeze(-1).expand(-1, -1, entries.shape[1])
