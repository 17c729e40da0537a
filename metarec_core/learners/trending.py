"""Trending: popularity in which the past fades."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from metarec_core.episodes.types import TaskData
from metarec_core.learners.base import FitContext, FitReport
from metarec_core.learners.popularity import Popularity
from metarec_core.section import Section

_DAY = 86_400.0
"""Seconds."""

_HALF_LIVES = (3.0, 7.0, 15.0, 30.0, 60.0, 120.0, 365.0, 1e6)
"""Days, tried in turn where none is set; the last one never fades."""

_UNSEEN = 0.01
"""Interactions that every item is given before its likelihood is taken."""


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
        half_life = self.config.half_life_days
        tried = _HALF_LIVES if half_life is None else (half_life,)
        counts = {days: _faded(train, days) for days in tried}
        if half_life is None:
            asked = _relevant(validation)
            items = torch.from_numpy(validation.interactions.items[asked])
            half_life = max(tried, key=lambda days: _likelihood(counts[days], items))
        self.log_counts = counts[half_life].log1p().float()
        return FitReport(
            facts={"half_life_days": half_life, "interactions": float(counts[half_life].sum())},
            chosen={"half_life_days": half_life},
        )


def _relevant(data: TaskData) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return data.interactions.values >= data.scale.relevant_from


def _faded(data: TaskData, half_life: float) -> Tensor:
    """Faded number of relevant interactions of each item, ``[I]`` float64."""
    relevant = _relevant(data)
    times, weights = data.interactions.times, None
    if times is not None and len(times):
        ages = (times.max() - times[relevant]) / _DAY
        weights = np.exp2(-ages / half_life)
    counts = np.bincount(data.interactions.items[relevant], weights, minlength=data.n_items)
    return torch.from_numpy(counts.astype(np.float64))


def _likelihood(counts: Tensor, items: Tensor) -> float:
    """Mean log share of ``items`` under shares that grow with ``counts``."""
    shares = (counts + _UNSEEN) / (counts + _UNSEEN).sum()
    return float(shares[items].log().mean()) if len(items) else 0.0
