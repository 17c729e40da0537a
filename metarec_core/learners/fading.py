"""How often items were chosen, counted alike or with a past that fades."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from metarec_core.episodes.types import TaskData

_DAY = 86_400.0
"""Seconds."""

HALF_LIVES = (3.0, 7.0, 15.0, 30.0, 60.0, 120.0, 365.0, 1e6)
"""Days, tried in turn where none is set; the last one never fades."""

_UNSEEN = 0.01
"""Interactions that every item is given before its likelihood is taken."""


def liked_counts(data: TaskData, half_life: float | None = None) -> Tensor:
    """Relevant interactions of each item, each counted as ``2^(-age / h)``, ``[I]`` float64.

    Exponential forgetting (Koychev 2000, "Gradual Forgetting for Adaptation to Concept Drift").

    Args:
        data: The training tasks.
        half_life: ``h``, in days; age is counted from the latest interaction of ``data``. None, or
            data without times: every interaction counts 1.
    """
    relevant = data.interactions.values >= data.scale.relevant_from
    times, weights = data.interactions.times, None
    if half_life is not None and times is not None and len(times):
        weights = np.exp2(-(times.max() - times[relevant]) / _DAY / half_life)
    counts = np.bincount(data.interactions.items[relevant], weights, minlength=data.n_items)
    return torch.from_numpy(counts.astype(np.float64))


def likeliest_half_life(train: TaskData, validation: TaskData) -> float:
    """That of ``HALF_LIVES``, in days, under which the choices of ``validation`` are likeliest.

    Choices are relevant interactions; an item's likelihood is its share of the faded ones in
    ``train``. Of equally likely half-lives, such as those of data without times, the longest.
    """
    relevant = validation.interactions.values >= validation.scale.relevant_from
    chosen = torch.from_numpy(validation.interactions.items[relevant])

    def likelihood(half_life: float) -> float:
        counts = liked_counts(train, half_life) + _UNSEEN
        return float((counts / counts.sum())[chosen].log().sum())

    return max(reversed(HALF_LIVES), key=likelihood)
