"""A champion of another night, judged on tonight's catalogue."""

from __future__ import annotations

import torch
from torch import Tensor

from metarec_core.episodes.types import IntArray, Support
from metarec_core.errors import ModelError
from metarec_core.evaluation.evaluate import Adaptable
from metarec_core.learners.base import Predictor

UNKNOWN_SCORE = torch.finfo(torch.float32).min
"""What an item that the learner does not know scores."""


def align(learner: Adaptable, own: IntArray) -> AlignedLearner:
    """Let a learner that was fitted on one catalogue answer in the indices of another.

    The support and the query keep tonight's items; what the learner never saw is dropped from the
    support it gets, is ranked below everything it knows, and has no predicted value. It is judged
    on the same tasks as the others and pays for what it cannot rank, as it would in service.

    User features are the caller's: sample the same tasks (same users, sizes and seed) from task
    data whose ``user_features`` the champion's own encoder made.

    Args:
        learner: A fitted learner.
        own: The learner's index of each of tonight's items, ``[I]``; -1 where it has none (see
            ``serving.audience.catalogue_positions``).

    Raises:
        ModelError: If the two catalogues share no item.
    """
    if not (own >= 0).any():
        raise ModelError(
            f"champion {learner.name!r}",
            found=f"none of tonight's {len(own)} items among those it knows",
            wanted="at least one item in common",
            next_step="check that it was trained on this dataset; it cannot be compared otherwise",
        )
    return AlignedLearner(learner, torch.tensor(own))


class AlignedLearner:
    """A learner behind a translation of item indices.

    Args:
        learner: The fitted learner.
        own: The learner's index of each of tonight's items, ``[I]`` int64; -1 where it has none.
    """

    def __init__(self, learner: Adaptable, own: Tensor) -> None:
        self._learner = learner
        self._own = own

    @property
    def name(self) -> str:
        """The learner's name."""
        return self._learner.name

    @property
    def known(self) -> Tensor:
        """Which of tonight's items the learner knows, ``[I]`` bool."""
        return self._own >= 0

    def adapt(self, support: Support) -> AlignedPredictor:
        """Adapt to what the learner knows of the support, ``[B, S]``."""
        own = self._own.to(support.items.device)
        items = own[support.items]
        mask = support.mask & (items >= 0)
        translated = Support(
            items=items * mask,
            values=support.values * mask,
            mask=mask,
            user_features=support.user_features,
        )
        return AlignedPredictor(self._learner.adapt(translated), own)


class AlignedPredictor:
    """Predictions in tonight's indices."""

    def __init__(self, predictor: Predictor, own: Tensor) -> None:
        self._predictor = predictor
        self._own = own

    def scores(self, items: Tensor | None = None) -> Tensor:
        """List scores, ``[B, K]`` or ``[B, I]`` float32; the smallest float for unknown items."""
        if items is None:
            own = self._own
            scores = self._predictor.scores()[:, own.clamp_min(0)]
        else:
            own = self._own[items]
            scores = self._predictor.scores(own.clamp_min(0))
        return torch.where(own >= 0, scores.float(), UNKNOWN_SCORE)

    def mean_var(self, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Predicted value and predictive variance, ``[B, K]`` or ``[B, I]``; NaN if unknown."""
        if items is None:
            own = self._own
            mean, variance = (part[:, own.clamp_min(0)] for part in self._predictor.mean_var())
        else:
            own = self._own[items]
            mean, variance = self._predictor.mean_var(own.clamp_min(0))
        known = own >= 0
        return torch.where(known, mean, torch.nan), torch.where(known, variance, torch.nan)
