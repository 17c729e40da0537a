"""What the amortised learner predicts for a batch of users."""

from __future__ import annotations

import torch
from torch import Tensor

from metarec_core.learners.amortised_net import ContentPart, Evidence, ItemTable, Preference
from metarec_core.learners.base import Shares
from metarec_core.learners.leave_out import LeaveOut
from metarec_core.learners.posterior import contrasts
from metarec_core.learners.posterior import entries as entries_of


class AmortisedPredictor:
    """Preferences of ``B`` users.

    Attributes:
        mean: Mean of the preference, ``[B, d]``.
    """

    def __init__(
        self,
        preference: Preference,
        table: ItemTable,
        shape: Tensor,
        content: ContentPart,
        evidence: Evidence,
        others: LeaveOut,
    ) -> None:
        self.mean = preference.mean
        self._spread = preference.spread
        self._table = table
        self._shape = shape
        self._content = content
        self._evidence = evidence
        self._others = others

    @property
    def covariance(self) -> Tensor:
        """Covariance of the preference, ``[B, d, d]``; made when asked for, never kept."""
        return self._spread[:, None, None] * self._shape

    @property
    def query(self) -> Tensor:
        """The mean of the preference, ``[B, d]``."""
        return self.mean

    def scores(self, items: Tensor | None = None) -> Tensor:
        """List scores, ``[B, K]`` or ``[B, I]``."""
        if items is None:
            return self.mean @ self._table.values.mT + self._table.appeal
        vectors = self._table.values[items]
        return (vectors @ self.mean.unsqueeze(-1)).squeeze(-1) + self._table.appeal[items]

    def score_variance(self, items: Tensor | None = None) -> Tensor:
        """Variance of list scores, of the preference alone, ``[B, K]`` or ``[B, I]``."""
        values = self._table.values
        by_item = ((values @ self._shape) * values).sum(dim=-1)
        return self._spread[:, None] * (by_item if items is None else by_item[items])

    def score_covariance(self, items: Tensor) -> Tensor:
        """Covariance of list scores, of the preference alone, ``[B, P, P]``."""
        values = self._table.values[items]
        joint = values @ self._shape @ values.mT
        # The two triangles are rounded differently.
        return self._spread[:, None, None] * (joint + joint.mT) / 2.0

    def mean_var(self, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """NaN: values of interactions are not forecast."""
        rows = len(self.mean)
        shape = (rows, len(self._table.appeal)) if items is None else tuple(items.shape)
        unknown = self.mean.new_full(shape, torch.nan)
        return unknown, unknown

    def contrast_variance(self, groups: Tensor) -> Tensor:
        """Variance of groups' mean scores less that of the catalogue, ``[B, G]``."""
        vectors = contrasts(groups, self._table.values)
        return self._spread[:, None] * ((vectors @ self._shape) * vectors).sum(dim=-1)

    def shares(self, items: Tensor) -> Shares:
        """An item's appeal to anyone is its own; what the preference brings is ``beyond``."""
        appeal = self._table.appeal[items]
        return Shares(
            item=appeal,
            prior=torch.zeros_like(appeal),
            support=appeal.new_zeros(*appeal.shape, self._evidence.items.shape[1]),
            beyond=self.scores(items) - appeal,
        )

    def without(self, items: Tensor | None, entries: Tensor) -> Tensor:
        """Scores read from the support without each of some entries, ``[B, K, N]``."""
        return self._others.without(self.scores(items), items, entries)

    def hints(self, items: Tensor) -> Tensor:
        """What the support's keys alone would say of ``items``, in absolute value, ``[B, S]``."""
        evidence = self._evidence
        keys = entries_of(self._table.keys, evidence.items)
        alike = self._table.values[items] @ keys.mT
        return alike.abs().sum(dim=1) * (evidence.liked + evidence.disliked)

    def deletions(self, items: Tensor, entries: Tensor) -> Tensor:
        """What scores lose without each of some support entries, ``[B, K, N]``."""
        return self.scores(items).unsqueeze(-1) - self.without(items, entries)

    def feature_shares(self, items: Tensor) -> Tensor:
        """What each column of an item's content adds to its score, ``[B, K, Fi]``."""
        content = self._content
        taste = content.gain[items].unsqueeze(-1) * (self.mean @ content.values).unsqueeze(1)
        return content.features[items] * (taste + content.new[items].unsqueeze(-1) * content.appeal)
