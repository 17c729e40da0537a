"""Trending: popularity in which the past fades."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from metarec_core.episodes.types import TaskData
from metarec_core.learners.base import FitContext, FitReport
from metarec_core.learners.fading import HALF_LIVES, Fading
from metarec_core.learners.popularity import Popularity
from metarec_core.section import Section


class TrendingConfig(Section):
    """Popularity in which the past fades."""

    half_lives_days: tuple[Annotated[float, Field(gt=0.0, le=1e6)], ...] = Field(
        HALF_LIVES, max_length=16
    )
    """Ages at which an interaction counts for half, one count each; one that never fades stands
    beside them. How much each count says is learned from how the past went on."""


class Trending(Popularity):
    """``score(u, i) = sum_h a_h log(1 + sum 2^(-age / h))`` over relevant interactions with ``i``.

    Age is counted in days from the latest training interaction, ``a`` is learned by forecasts
    within the training data (:class:`~metarec_core.learners.fading.Fading`). Where interactions
    have no times nothing fades, and this is :class:`Popularity`.
    """

    name: ClassVar[str] = "trending"
    Config: ClassVar[type[Section]] = TrendingConfig

    def fit(self, train: TaskData, validation: TaskData, context: FitContext) -> FitReport:
        """Learn how the past fades; nothing is chosen on ``validation``."""
        assert isinstance(self.config, TrendingConfig)
        fading = Fading.learn(train, self.config.half_lives_days)
        self.log_counts = fading.appeal(train).float()
        facts = {
            f"weight_of_half_life_{days:g}": float(weight)
            for days, weight in zip(fading.half_lives, fading.weights, strict=True)
        }
        return FitReport(facts=facts)
