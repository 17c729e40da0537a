"""What the members of an average say of users whom none of them was trained on."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from metarec_core.episodes.sampling import evaluation_episodes
from metarec_core.episodes.types import Episode, Support, TaskData
from metarec_core.learners.average_predictor import AveragePredictor
from metarec_core.learners.average_weights import KNOTS, ListTasks
from metarec_core.learners.base import FitContext

_CELLS = 1 << 22
"""Scores (tasks x catalogue) of a member held at once."""


class Adaptable(Protocol):
    """An average, its members fitted."""

    def adapt(self, support: Support) -> AveragePredictor:
        """Adapt every member."""
        ...


class Sizes(Protocol):
    """Settings that bound memory and time."""

    @property
    def shuffles(self) -> int:
        """Ways in which each user's interactions are cut."""
        ...

    @property
    def candidates(self) -> int:
        """Items kept of each task."""
        ...

    @property
    def max_tasks(self) -> int:
        """Most tasks."""
        ...


class HeldOut:
    """What members say of the validation tasks.

    Args:
        average: The average, its members fitted.
        validation: Users that no member was trained on.
        sizes: How many tasks, and candidates of each.
        context: Seed, device and sizes.
        met: Items that training users met, ``[I]`` bool. No other one is a target or competes in
            lists: members that know nothing of it would seem to be wrong about everything.
    """

    def __init__(
        self,
        average: Adaptable,
        validation: TaskData,
        sizes: Sizes,
        context: FitContext,
        met: Tensor,
    ) -> None:
        self._met = met.to(context.device)
        self.valued: list[bool] = []
        self._relevant_from = validation.scale.relevant_from
        self._candidates = min(sizes.candidates, validation.n_items)
        lists: list[tuple[Tensor, ...]] = []
        values: list[tuple[Tensor, ...]] = []
        n_users = max(1, sizes.max_tasks // (sizes.shuffles * len(KNOTS)))
        users = np.arange(validation.n_users)[:n_users]
        for shuffle in range(sizes.shuffles):
            tasks = evaluation_episodes(
                validation,
                users,
                support_sizes=[size for size in KNOTS if size <= context.max_support],
                max_query=context.max_query,
                seed=context.seed + shuffle,
            )
            for batch in tasks.batches(max(1, _CELLS // validation.n_items)):
                episode = batch.episode.to(context.device)
                predictor = average.adapt(episode.support)
                self.valued = self.valued or predictor.valued()
                lists.append(self._list_part(predictor, episode))
                values.append(_value_part(predictor, episode))
        self._lists = [torch.cat(parts) for parts in zip(*lists, strict=True)]
        self._values = [torch.cat(parts) for parts in zip(*values, strict=True)]

    def list_tasks(self) -> ListTasks:
        """The tasks that have a target."""
        sizes, decided, scores, target = self._lists
        asked = target.any(dim=1)
        return ListTasks(sizes[asked], decided[asked], scores[asked], target[asked])

    def observations(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Sizes and misfits ``[N]``, members' means and variances ``[N, M']``, values ``[N]``."""
        sizes, misfit, mean, variance, values = self._values
        return sizes, misfit, mean, variance, values

    def _list_part(self, predictor: AveragePredictor, episode: Episode) -> tuple[Tensor, ...]:
        """The items that the members, taken alike, rank first, and which of them are targets.

        A target that none would show is left out, as all items are that stand there with it. Among
        candidates that it alone stood for it would seem that what members rank last is chosen
        rather than what they rank in the middle: with many such targets all weights vanished.
        """
        standard = predictor.standard_scores()
        known = _multi_hot(episode.support.items, episode.support.mask, standard.shape[1])
        relevant = episode.mask & (episode.values >= self._relevant_from)
        relevant = relevant & self._met[episode.items]
        target = _multi_hot(episode.items, relevant, standard.shape[1])
        # Other items the user met in the query are no candidates: they are neither good nor bad.
        asked = _multi_hot(episode.items, episode.mask & ~relevant, standard.shape[1])
        merit = standard.mean(dim=2).masked_fill(known | asked | ~self._met, -torch.inf)
        chosen = merit.topk(self._candidates, dim=1)
        out = (chosen.values == -torch.inf)[..., None]
        scores = standard.gather(1, chosen.indices[..., None].expand(-1, -1, standard.shape[2]))
        return (
            episode.support.sizes.cpu(),
            predictor.decided.float().cpu(),
            scores.masked_fill(out, -1e4).float().cpu(),
            target.gather(1, chosen.indices).cpu(),
        )


def _value_part(predictor: AveragePredictor, episode: Episode) -> tuple[Tensor, ...]:
    mean, variance = predictor.member_values(episode.items)
    sizes = episode.support.sizes[:, None].expand_as(episode.values)
    real = episode.mask
    return (
        sizes[real].cpu(),
        predictor.misfit()[:, None].expand_as(episode.values)[real].float().cpu(),
        mean[real].float().cpu(),
        variance[real].float().cpu(),
        episode.values[real].cpu(),
    )


def _multi_hot(items: Tensor, mask: Tensor, n_items: int) -> Tensor:
    """``[B, I]`` bool: True at the items whose mask is."""
    counts = torch.zeros(len(items), n_items, dtype=torch.int32, device=items.device)
    return counts.scatter_add_(1, items, mask.int()) > 0
