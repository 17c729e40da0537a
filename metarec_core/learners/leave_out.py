"""Scores without one interaction, by adapting again: exact for every learner."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metarec_core.episodes.types import Support
from metarec_core.learners.base import Predictor

_PAIRS = 64
_ENTRIES = 1 << 18
_SCORES = 1 << 22
"""Most (user, entry) pairs, padded support entries and scores that are held at once."""


@dataclass(frozen=True, slots=True)
class LeaveOut:
    """Adapts to a support with one entry masked, many (user, entry) pairs at a time.

    A pair is always adapted in a batch of a size that depends on nothing but the width of the
    support and the catalogue, so that its scores do not hang on the other pairs.

    Attributes:
        adapt: The learner's own.
        support: What the scores were learned from, ``[B, S]``.
        catalogue: Scores that adapting to one support makes at once, whatever is asked; bounds
            memory.
    """

    adapt: Callable[[Support], Predictor]
    support: Support
    catalogue: int = 0

    def without(self, scores: Tensor, items: Tensor | None, entries: Tensor) -> Tensor:
        """See :meth:`metarec_core.learners.base.Counterfactual.without`.

        Args:
            scores: With the whole support, ``[B, K]`` or ``[B, I]``.
            items: Catalogue indices ``[B, K]``; None for the whole catalogue.
            entries: Positions in the support, ``[B, N]``; -1, or padding, leaves nothing out.

        Returns:
            ``[B, K, N]`` or ``[B, I, N]`` float64.
        """
        left = scores.double().unsqueeze(-1).repeat(1, 1, entries.shape[1])
        if self.support.items.shape[1] == 0:
            return left
        real = (entries >= 0) & self.support.mask.gather(1, entries.clamp_min(0))
        users, columns = real.nonzero(as_tuple=True)
        places = entries[users, columns]
        for own, start, stop in self._chunks(len(users), scores.shape[1]):
            predictor = self.adapt(self._masked(users[own], places[own]))
            asked = predictor.scores(None if items is None else items[users[own]])
            left[users[start:stop], :, columns[start:stop]] = asked[: stop - start].double()
        return left

    def _chunks(self, n_pairs: int, n_scores: int) -> Iterator[tuple[Tensor, int, int]]:
        width = self.support.items.shape[1]
        scores = max(n_scores, self.catalogue, 1)
        size = max(1, min(_PAIRS, _ENTRIES // width, _SCORES // scores))
        device = self.support.items.device
        for start in range(0, n_pairs, size):
            stop = min(start + size, n_pairs)
            # The last chunk is filled up with its own first pair.
            own = torch.arange(start, start + size, device=device)
            yield torch.where(own < stop, own, start), start, stop

    def _masked(self, users: Tensor, places: Tensor) -> Support:
        support = self.support
        mask = support.mask[users]
        mask[torch.arange(len(users), device=users.device), places] = False
        return replace(
            support,
            items=support.items[users],
            values=support.values[users],
            mask=mask,
            user_features=support.user_features[users],
        )
