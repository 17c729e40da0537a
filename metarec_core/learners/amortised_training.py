"""What the amortised learner is trained by: the softmax over the catalogue, in every mode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from metarec_core.episodes.sampling import evaluation_episodes
from metarec_core.episodes.types import Episode, Support, TaskData
from metarec_core.learners.amortised_net import AmortisedNet, Dropout, Evidence, ItemTable
from metarec_core.learners.base import FitContext
from metarec_core.schema import Feedback

_VALIDATION_SUPPORTS = (0, 1, 2, 5, 10, 20, 40)
_VALIDATION_BATCH = 256


@dataclass(frozen=True, slots=True)
class DropRates:
    """What training leaves out at random; see the learner's settings."""

    units: float
    ids: float
    modes: float
    not_relevant: float


def describe(net: AmortisedNet, data: TaskData) -> None:
    """Tell the network of content and popularity in ``data``, the training tasks."""
    interactions = data.interactions
    items, values = torch.from_numpy(interactions.items), torch.from_numpy(interactions.values)
    met = torch.bincount(items, minlength=data.n_items) > 0
    liked = torch.bincount(items[values >= data.scale.relevant_from], minlength=data.n_items)
    log_share = torch.log(liked + 0.5)
    content = torch.from_numpy(data.item_features)
    size = content[met].square().mean(dim=0).sqrt()
    with torch.no_grad():
        net.met.copy_(met)
        net.log_share.copy_((log_share - log_share[met].mean()) * met)
        net.features.copy_(content / torch.where(size > 0, size, torch.ones_like(size)))
        net.unit.copy_(values.clamp_min(0.0).log1p().mean().clamp_min(1e-6))


class Objective:
    """Losses of the network on training and validation tasks."""

    def __init__(
        self,
        net: AmortisedNet,
        rates: DropRates,
        validation: TaskData,
        context: FitContext,
    ) -> None:
        self.net: nn.Module = net
        self._rates = rates
        self._explicit = validation.scale.feedback is Feedback.EXPLICIT
        self._relevant_from = validation.scale.relevant_from
        self._device = context.device
        self._tasks = evaluation_episodes(
            validation,
            np.arange(validation.n_users),
            support_sizes=[size for size in _VALIDATION_SUPPORTS if size <= context.max_support],
            max_query=validation.n_items,
            seed=context.seed,
        )

    def loss(self, net: nn.Module, episode: Episode, generator: torch.Generator) -> Tensor:
        """Mean over the batch's targets, plus what trains the variance alone."""
        assert isinstance(net, AmortisedNet)
        episode = self._thinned(episode, generator)
        table = self._table(net, generator)
        evidence = self._evidence(net, episode.support)
        if table is None:
            table = net.items(net.met, torch.zeros_like(net.features))
            evidence = evidence._replace(user_features=torch.zeros_like(evidence.user_features))
        mean, _ = net.read(table, evidence, Dropout(self._rates.units, generator))
        nll, count = self._nll(net, table, mean, episode)
        spread, users = self._spread(net, table, evidence, episode)
        return nll / count + spread / users

    def validate(self, net: nn.Module) -> Mapping[str, float]:
        """``loss``: negative log likelihood of a target, over all validation tasks."""
        assert isinstance(net, AmortisedNet)
        total, targets, spread, users = 0.0, 0.0, 0.0, 0
        with torch.no_grad():
            table = net.items(net.met, net.features)
            for batch in self._tasks.batches(_VALIDATION_BATCH):
                episode = batch.episode.to(self._device)
                evidence = self._evidence(net, episode.support)
                mean, _ = net.read(table, evidence)
                nll, count = self._nll(net, table, mean, episode)
                apart, tasks = self._spread(net, table, evidence, episode)
                total, targets = total + float(nll), targets + float(count)
                spread, users = spread + float(apart), users + tasks
        return {"loss": total / max(targets, 1.0), "spread_nll": spread / max(users, 1)}

    def calibrate(self, net: AmortisedNet) -> float:
        """Scale variances such that validation users' preferences move as far as they say.

        Returns:
            The factor: mean of squared moves in units of their variance.
        """
        ratios: list[Tensor] = []
        with torch.no_grad():
            table = net.items(net.met, net.features)
            for batch in self._tasks.batches(_VALIDATION_BATCH):
                episode = batch.episode.to(self._device)
                evidence = self._evidence(net, episode.support)
                mean, read = net.read(table, evidence)
                moved = (self._settled(net, table, evidence, episode) - mean).square()
                ratios.append((moved / net.variance(read)).mean(dim=1))
            factor = torch.cat(ratios).mean() if ratios else torch.ones(())
            net.log_variance.bias.add_(factor.clamp_min(1e-6).log())
        return float(factor)

    def _thinned(self, episode: Episode, generator: torch.Generator) -> Episode:
        """Some supports without what is not relevant: those that serve histories of likes."""
        support = episode.support
        if not self._explicit or self._rates.not_relevant == 0.0:
            return episode
        drawn = torch.rand(len(support.items), 1, generator=generator).to(self._device)
        kept = (drawn >= self._rates.not_relevant) | (support.values >= self._relevant_from)
        return replace(episode, support=replace(support, mask=support.mask & kept))

    def _table(self, net: AmortisedNet, generator: torch.Generator) -> ItemTable | None:
        """Items of a step: some of them new, or all, or all without content (None)."""
        drawn = torch.rand(net.sizes.n_items + 1, generator=generator).to(self._device)
        half = self._rates.modes / 2.0
        mode = float(drawn[-1])
        if mode < half:
            return net.items(None, net.features)
        if mode < 2.0 * half:
            return None
        return net.items(net.met * (drawn[:-1] >= self._rates.ids), net.features)

    def _evidence(self, net: AmortisedNet, support: Support) -> Evidence:
        return Evidence.of(support, self._relevant_from, net.unit, explicit=self._explicit)

    def _nll(
        self, net: AmortisedNet, table: ItemTable, mean: Tensor, episode: Episode
    ) -> tuple[Tensor, Tensor]:
        """Negative log likelihood summed over targets, and their number.

        The support is known: it is no candidate. Nor is an item that nobody has met: that would
        teach that content like its own is never chosen.
        """
        logits = torch.addmm(table.appeal, mean, table.values.mT)
        support = episode.support
        closed = torch.zeros_like(logits, dtype=torch.int32)
        closed.scatter_add_(1, support.items, support.mask.int())
        closed = (closed > 0) | (net.met == 0)
        log_p = functional.log_softmax(logits.masked_fill(closed, -torch.inf), dim=-1)
        # A validation user may have met what no training user has.
        target = self._relevant(episode) & (net.met[episode.items] > 0)
        picked = log_p.gather(1, episode.items).masked_fill(~target, 0.0)
        return -picked.sum(), target.sum().clamp_min(1)

    def _relevant(self, episode: Episode) -> Tensor:
        return episode.mask & (episode.values >= self._relevant_from)

    def _spread(
        self, net: AmortisedNet, table: ItemTable, evidence: Evidence, episode: Episode
    ) -> tuple[Tensor, int]:
        """Gaussian negative log likelihood of settled preferences; teaches the variance alone."""
        with torch.no_grad():
            mean, read = net.read(table, evidence)
            moved = (self._settled(net, table, evidence, episode) - mean).square()
        variance = net.variance(read)
        nll = 0.5 * (variance.log() + moved / variance)
        return nll.mean(dim=1).sum(), len(mean)

    def _settled(
        self, net: AmortisedNet, table: ItemTable, evidence: Evidence, episode: Episode
    ) -> Tensor:
        """Preference read from the support and everything after it, ``[B, d]``."""
        query = Support(episode.items, episode.values, episode.mask, episode.support.user_features)
        later = self._evidence(net, query)
        everything = Evidence(
            torch.cat([evidence.items, later.items], dim=1),
            torch.cat([evidence.liked, later.liked], dim=1),
            torch.cat([evidence.disliked, later.disliked], dim=1),
            evidence.user_features,
        )
        return net.read(table, everything)[0]
