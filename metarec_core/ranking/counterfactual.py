"""Places in the whole catalogue without one interaction: what each of them did for a list."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metarec_core.episodes.types import Support
from metarec_core.errors import ModelError
from metarec_core.learners.base import Counterfactual, Learner, Predictor
from metarec_core.learners.leave_out import LeaveOut
from metarec_core.ranking.grid import on_grid

_SCORES = 1 << 22
"""Scores (items x interactions left out) held at once."""


@dataclass(frozen=True, slots=True)
class PlacesWithout:
    """One user's entries as they would rank without each interaction.

    Attributes:
        rank: Place of each entry among the candidates as it is, from 1, ``[K]``.
        score: Its score, ``[K]``.
        rank_without: Its place without each interaction, ``[K, S]``.
        score_without: Its score then, ``[K, S]``.
    """

    rank: Tensor
    score: Tensor
    rank_without: Tensor
    score_without: Tensor


@torch.no_grad()
def places_without(
    learner: Learner, support: Support, items: Tensor, candidates: Tensor
) -> PlacesWithout:
    """Rank a user's entries again without each of the user's interactions.

    Exact for every learner: the answer is that of a model adapted to the smaller support. What
    was left out does not compete itself. Figures lie on the grid of lists; among equals the lower
    catalogue index is ahead.

    Args:
        learner: A fitted learner.
        support: One user, ``[1, S]``, without padding.
        items: Catalogue indices of the entries, ``[K]``.
        candidates: Which items compete, ``[I]`` bool.

    Raises:
        ModelError: If an entry is none of the candidates.
    """
    if not bool(candidates[items].all()):
        raise ModelError(
            "entries to rank again",
            found=f"{int((~candidates[items]).sum())} of {len(items)} that do not compete",
            wanted="entries out of the candidates",
            next_step="leave out entries that the user has met, or that no list may hold",
        )
    predictor = learner.adapt(support)
    whole = on_grid(predictor.scores().double())
    rank = _ranks(whole.mT, items, candidates).squeeze(1)
    size = support.items.shape[1]
    step = max(1, _SCORES // whole.shape[1])
    ranks, scores = [], []
    for start in range(0, size, step):
        entries = torch.arange(start, min(start + step, size), device=items.device)[None]
        left = on_grid(_without(learner, predictor, support, entries)[0])
        ranks.append(_ranks(left, items, candidates))
        scores.append(left[items])
    empty = whole.new_zeros(len(items), 0)
    return PlacesWithout(
        rank=rank,
        score=whole[0, items],
        rank_without=torch.cat([empty.long(), *ranks], dim=1),
        score_without=torch.cat([empty, *scores], dim=1),
    )


def _without(learner: Learner, predictor: Predictor, support: Support, entries: Tensor) -> Tensor:
    """Scores of the catalogue without each of ``entries`` (``[1, N]``), ``[1, I, N]``."""
    if isinstance(predictor, Counterfactual):
        return predictor.without(None, entries)
    scores = predictor.scores()
    others = LeaveOut(learner.adapt, support, catalogue=scores.shape[1])
    return others.without(scores, None, entries)


def places_in(scores: Tensor, items: Tensor, candidates: Tensor) -> Tensor:
    """Places of some items among the candidates, from 1, each user's own.

    Args:
        scores: ``[B, I]``.
        items: Catalogue indices ``[B, K]``; they need not be candidates themselves.
        candidates: Which items compete, ``[B, I]`` bool.

    Returns:
        ``[B, K]``; figures are compared on the grid of lists, and among equals the lower catalogue
        index is ahead.
    """
    scores = on_grid(scores)
    own = scores.gather(1, items)
    open_scores = scores.masked_fill(~candidates, -torch.inf)
    index = torch.arange(scores.shape[1], device=scores.device)
    places = []
    for column in range(items.shape[1]):
        level, item = own[:, column : column + 1], items[:, column : column + 1]
        ahead = (open_scores > level) | ((open_scores == level) & (index < item))
        places.append(ahead.sum(dim=1) + 1)
    return torch.stack(places, dim=1) if places else items.clone()


def _ranks(scores: Tensor, items: Tensor, candidates: Tensor) -> Tensor:
    """Places of ``items`` (``[K]``) among the candidates, by each column of scores ``[I, N]``."""
    open_scores = scores.masked_fill(~candidates[:, None], -torch.inf)
    index = torch.arange(len(scores), device=scores.device)[:, None]
    ranks = []
    for item in items:
        own = scores[item]
        ahead = (open_scores > own) | ((open_scores == own) & (index < item))
        ranks.append(ahead.sum(dim=0) + 1)
    return torch.stack(ranks) if ranks else scores.new_zeros(0, scores.shape[1]).long()
