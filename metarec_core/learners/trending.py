"""Trending: popularity in which the past fades."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from metarec_core.episodes.types import TaskData
from metarec_core.learners.base import FitContext, FitReport
from metarec_core.learners.fading import liked_counts, likeliest_half_life
from metarec_core.learners.popularity import Popularity
from metarec_core.section import Section


class TrendingConfig(Section):
    """Popularity in which the past fades."""

    half_life_days: float | None = Field(None, gt=0.0, le=1e6)
    """Age at which an interaction counts for half; null: the one under which the validation users'
    choices are likeliest."""


class Trending(Popularity):
    """``score(u, i) = log(1 + sum 2^(-age / h))`` over the training users with a relevant ``i``.

    Age is counted in days from the latest training interaction, ``h`` is the half-life
    (exponential forgetting: Koychev 2000, "Gradual Forgetting for Adaptation to Concept Drift").
    Where interactions have no times nothing fades, and this is :class:`Popularity`.
    """

    name: ClassVar[str] = "trending"
    Config: ClassVar[type[Section]] = TrendingConfig

    def fit(self, train: TaskData, validation: TaskData, context: FitContext) -> FitReport:
        """Count with weights that fade; ``validation`` chooses the half-life if none is set."""
        assert isinstance(self.config, TrendingConfig)
        half_life = self.config.half_life_days or likeliest_half_life(train, validation)
        counts = liked_counts(train, half_life)
        self.log_counts = counts.log1p().float()
        return FitReport(
            facts={"half_life_days": half_life, "interactions": float(counts.sum())},
            chosen={"half_life_days": half_life},
        )
