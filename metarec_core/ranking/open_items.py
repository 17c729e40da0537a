"""What every user of an audience may be shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metarec_core.episodes.types import IntArray
from metarec_core.ranking.request import Audience, ListSettings
from metarec_core.ranking.search import Closed
from metarec_core.ranking.search.scores import BoolArray


@dataclass(frozen=True, slots=True)
class OpenItems:
    """What every user may be shown.

    Attributes:
        masks: Open items of groups of users, ``[G, I]``.
        mask_of_user: Which of them is each user's, ``[U]``.
        closed: What is closed to each user beside.
        anyone: Items that somebody may be shown, ``[I]``.
    """

    masks: BoolArray
    mask_of_user: IntArray
    closed: Closed
    anyone: BoolArray

    @classmethod
    def of(cls, audience: Audience, settings: ListSettings, n_items: int) -> OpenItems:
        """By the rules, or else by what each user has interacted with."""
        rules = settings.rules
        if rules is not None:
            return cls(
                rules.masks,
                rules.mask_of_user.astype(np.int64),
                rules.closed,
                rules.open_to_anyone(),
            )
        mask = np.ones(n_items, dtype=np.bool_)
        if settings.candidates is not None:
            mask[:] = False
            mask[settings.candidates] = True
        if settings.exclude is not None:
            mask[settings.exclude] = False
        nobody = np.zeros(len(audience.user_ids), dtype=np.int64)
        return cls(mask[None], nobody, Closed.seen(audience.histories), mask)
