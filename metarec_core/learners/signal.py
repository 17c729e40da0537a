"""What an interaction says for its item when only choices count, not their values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metarec_core.episodes.types import FloatArray, TaskData, ValueScale
from metarec_core.learners.fading import liked_counts
from metarec_core.schema import Feedback


@dataclass(frozen=True, slots=True)
class Signal:
    """How values become votes.

    An explicit rating votes with 1 if it is relevant and not at all otherwise; an implicit
    event votes with its weight.

    Attributes:
        explicit: Whether values are ratings.
        relevant_from: Ratings from here on are relevant.
    """

    explicit: bool
    relevant_from: float

    @classmethod
    def of(cls, scale: ValueScale) -> Signal:
        """The signal of data on that scale."""
        # As exact as the values it is compared with, so that a saved learner decides alike.
        return cls(scale.feedback is Feedback.EXPLICIT, float(np.float32(scale.relevant_from)))

    def votes(self, values: Tensor, mask: Tensor) -> Tensor:
        """Votes of a batch of supports, float32.

        Args:
            values: Ratings or weights, ``[B, S]``.
            mask: True where an entry is real, ``[B, S]``.

        Returns:
            ``[B, S]``; 0 at padding.
        """
        if self.explicit:
            return ((values >= self.relevant_from) & mask).float()
        return values.clamp_min(0.0) * mask

    def votes_of(self, values: FloatArray) -> FloatArray:
        """Votes of training interactions, ``[N]``."""
        tensor = torch.from_numpy(values)
        votes: FloatArray = self.votes(tensor, torch.ones_like(tensor, dtype=torch.bool)).numpy()
        return votes

    def state(self) -> dict[str, Tensor]:
        """``explicit`` and ``relevant_from``, scalars."""
        return {
            "explicit": torch.tensor(self.explicit),
            "relevant_from": torch.tensor(self.relevant_from),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Signal:
        """The signal that :meth:`state` was taken from."""
        return cls(bool(state["explicit"]), float(state["relevant_from"]))


def log_popularity(data: TaskData) -> Tensor:
    """``log(1 + n_i)``, ``n_i`` the users with a relevant ``i``, ``[I]`` float32."""
    return liked_counts(data).float().log1p()
