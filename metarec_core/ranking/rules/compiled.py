"""Compiled rules: masks, closed items, pins and categories in catalogue indices."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from metarec_core.episodes.types import IntArray
from metarec_core.ranking.rules.categories import CategoryRules
from metarec_core.ranking.rules.closed import count_within
from metarec_core.ranking.rules.findings import RuleFinding
from metarec_core.ranking.rules.items import BoolArray
from metarec_core.ranking.rules.masks import Int32Array
from metarec_core.ranking.rules.pins import Pins
from metarec_core.ranking.search import Closed


@dataclass(frozen=True, slots=True)
class CompiledRules:
    """Rules of one night's lists.

    User ``u`` may be shown ``masks[mask_of_user[u]]`` less ``closed.of(u)``.

    Attributes:
        k: Most entries of a list.
        open_items: What anyone at all may be shown: available, not denied to all, old enough,
            ``[I]``. Every mask lies within it.
        masks: What groups of users may be shown, ``[G, I]``. Row 0 holds for users whom no rule
            of a segment and no allow list of their own reaches; it is ``open_items`` unless there
            is an allow list for everyone.
        mask_sizes: Open items of each mask, ``[G]``.
        mask_of_user: Row of each user's mask, ``[U]`` int32.
        closed: What single users may not be shown: consumed, or denied to them alone.
        pins: Items at fixed ranks.
        categories: Caps and quotas.
        findings: What compiling had to tell.
    """

    k: int
    open_items: BoolArray
    masks: BoolArray
    mask_sizes: IntArray
    mask_of_user: Int32Array
    closed: Closed
    pins: Pins
    categories: CategoryRules
    findings: tuple[RuleFinding, ...]

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.mask_of_user)

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return len(self.open_items)

    def part(self, start: int, stop: int) -> CompiledRules:
        """The rules of users ``start`` up to, not including, ``stop``."""
        return replace(
            self,
            mask_of_user=self.mask_of_user[start:stop],
            closed=self.closed.rows(start, stop),
            pins=self.pins.part(start, stop),
        )

    def open_to_anyone(self) -> BoolArray:
        """What at least one user's mask holds, ``[I]``; no list needs any other item's score.

        Of a part of the users: what the masks of all hold, or less.
        """
        # Every mask has users, but for the one of users without rules of their own.
        unused = 0 if (self.mask_of_user == 0).any() else 1
        result: BoolArray = np.logical_or.reduce(self.masks[unused:], axis=0)
        return result

    def open_counts(self, users: IntArray) -> IntArray:
        """How many items each of ``users`` may be shown, ``[B]``."""
        closed = count_within(self.closed, self.masks, self.mask_of_user, users)
        counts: IntArray = self.mask_sizes[self.mask_of_user[users]] - closed
        return counts

    def open_to(self, user: int) -> BoolArray:
        """What the user in row ``user`` may be shown, ``[I]``."""
        mask: BoolArray = self.masks[self.mask_of_user[user]].copy()
        mask[self.closed.of(user)] = False
        return mask

    def pinned(self, users: IntArray) -> IntArray:
        """Item at each rank that a pin holds, -1 elsewhere, ``[B, k]``.

        A pin never opens an item: pins of items that are closed to a user are left out.
        """
        return self.pins.resolve(users, self.masks, self.mask_of_user, self.closed)
