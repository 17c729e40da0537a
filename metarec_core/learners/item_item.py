"""Scores that are sums over the support of item-to-item weights: what kNN and EASE share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn import functional

from metarec_core.episodes.types import IntArray, Support, TaskData
from metarec_core.errors import CatalogueTooLargeError
from metarec_core.learners.base import Shares
from metarec_core.learners.signal import Signal

Gram = npt.NDArray[np.float64]

_PAIRS_AT_ONCE = 2**24
"""Pairs of items that a block of users may hold: some hundred megabytes of sparse counts."""


def check_item_cap(learner: str, n_items: int, max_items: int) -> None:
    """Refuse a catalogue above the cap before memory is asked for.

    Raises:
        CatalogueTooLargeError: If there are more than ``max_items`` items.
    """
    if n_items > max_items:
        raise CatalogueTooLargeError(
            f"learner {learner}",
            found=f"a catalogue of {n_items:,} items, whose square does not fit",
            wanted=f"at most learners.{learner}.max_items = {max_items:,}",
            next_step=f"leave {learner} out, or raise the cap: it holds items x items numbers of "
            "four bytes, and several times that while it is fitted",
        )


def co_votes(data: TaskData, signal: Signal) -> Gram:
    """``X'X`` of the users' votes ``X`` (``[U, I]``, sparse, never dense).

    Users are taken in blocks, so that what is held beside the result does not grow with them.

    Returns:
        ``[I, I]`` float64.
    """
    matrix = data.interactions
    votes = signal.votes_of(matrix.values).astype(np.float64)
    rows = np.repeat(np.arange(matrix.n_users), matrix.counts())
    voted = votes > 0
    counts = np.bincount(rows[voted], minlength=matrix.n_users)
    table = sparse.csr_array(
        (votes[voted], matrix.items[voted], np.concatenate([[0], np.cumsum(counts)])),
        shape=(matrix.n_users, data.n_items),
    )
    gram: Gram = np.zeros((data.n_items, data.n_items))
    for start, stop in _blocks(counts):
        block = table[start:stop]
        pairs = (block.T @ block).tocoo()
        gram[pairs.row, pairs.col] += pairs.data
    return gram


def _blocks(counts: IntArray) -> Iterator[tuple[int, int]]:
    """Ranges of users whose squared counts sum to at most the limit; at least one user each."""
    start, held = 0, 0
    for user, pairs in enumerate(np.square(counts).tolist()):
        if user > start and held + pairs > _PAIRS_AT_ONCE:
            yield start, user
            start, held = user, 0
        held += pairs
    if start < len(counts):
        yield start, len(counts)


@dataclass(frozen=True, slots=True)
class ItemItem:
    """What is learned by a learner of this kind.

    Attributes:
        weights: ``W[s, i]``: what a vote for ``s`` adds to the score of ``i``, ``[I, I]``.
        appeal: What every user is given without a support, ``[I]``.
        signal: How values become votes.
    """

    weights: Tensor
    appeal: Tensor
    signal: Signal

    def state(self) -> dict[str, Tensor]:
        """All of it as named tensors on the CPU."""
        return {
            "weights": self.weights.cpu().contiguous(),
            "appeal": self.appeal.cpu(),
            **self.signal.state(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], device: torch.device) -> ItemItem:
        """What :meth:`state` was taken from."""
        return cls(
            state["weights"].to(device), state["appeal"].to(device), Signal.from_state(state)
        )


class ItemItemPredictor:
    """``score(i) = appeal_i + sum_s vote_s W[s, i]`` of ``B`` users; exact in the support."""

    def __init__(self, learned: ItemItem, support: Support) -> None:
        device = support.items.device
        self._weights = learned.weights.to(device)
        self._appeal = learned.appeal.to(device)
        self._items = support.items
        self._votes = learned.signal.votes(support.values, support.mask)

    def scores(self, items: Tensor | None = None) -> Tensor:
        """List scores, ``[B, K]`` or ``[B, I]``."""
        if items is not None:
            return self._appeal[items] + self._support_share(items).sum(dim=-1)
        if self._items.shape[1] == 0:
            return self._appeal.expand(len(self._items), -1)
        # A weighted sum of rows that never holds [B, S, I].
        return self._appeal + functional.embedding_bag(
            self._items, self._weights, per_sample_weights=self._votes, mode="sum"
        )

    def mean_var(self, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """NaN: choices are ordered, no value is predicted."""
        shape = items.shape if items is not None else (len(self._items), len(self._appeal))
        unknown = self._appeal.new_full(shape, torch.nan)
        return unknown, unknown

    def shares(self, items: Tensor) -> Shares:
        """Popularity is the item's; each vote adds its weight."""
        item = self._appeal[items]
        return Shares(item=item, prior=torch.zeros_like(item), support=self._support_share(items))

    def without(self, items: Tensor | None, entries: Tensor) -> Tensor:
        """Scores without the votes of some support entries, ``[B, K, N]`` float64."""
        scores = self.scores(items).double().unsqueeze(-1)
        if self._items.shape[1] == 0:
            return scores.expand(-1, -1, entries.shape[1])
        places = entries.clamp_min(0)
        votes = self._votes.gather(1, places).double() * (entries >= 0)
        left_out = self._items.gather(1, places)
        if items is None:
            weights = self._weights[left_out].mT
        else:
            weights = self._weights[left_out.unsqueeze(1), items.unsqueeze(2)]
        return scores - weights * votes.unsqueeze(1)

    def _support_share(self, items: Tensor) -> Tensor:
        weights = self._weights[self._items.unsqueeze(1), items.unsqueeze(2)]
        return weights * self._votes.unsqueeze(1)
