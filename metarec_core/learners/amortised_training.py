"""What the amortised learner is trained by: the softmax over the catalogue, in every mode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from metarec_core.episodes.sampling import EvaluationTasks, evaluation_episodes, full_support
from metarec_core.episodes.types import Episode, Support, TaskData
from metarec_core.learners.amortised_net import AmortisedNet, Dropout, Evidence, ItemTable
from metarec_core.learners.base import FitContext
from metarec_core.learners.fading import Fading, liked_counts
from metarec_core.learners.top_weights import top_weights
from metarec_core.schema import Feedback

_CONTENT_NORM = 2.0
"""Root mean square norm of an item's content."""

_VALIDATION_SUPPORTS = (0, 1, 2, 5, 10, 20, 40)
_VALIDATION_BATCH = 256
_LEAST = 1e-6
"""Sum that is divided by where there is no target, or no choice, at all."""
_NEWTON_STEPS = 30
_MOMENTS = 12
"""Moments at which the popularity of the past is taken; each holds the catalogue once."""


@dataclass(frozen=True, slots=True)
class DropRates:
    """What training leaves out at random; see the learner's settings."""

    units: float
    ids: float
    features: float
    modes: float
    not_relevant: float


@dataclass(frozen=True, slots=True)
class Top:
    """Which targets count: those near ``place`` of the ranking in full, far ones by ``tail``."""

    place: int
    tail: float


def describe(net: AmortisedNet, data: TaskData, fading: Fading | None = None) -> None:
    """Tell the network of content and popularity in ``data``, the training tasks.

    Args:
        net: The network to tell; changed in place.
        data: The training tasks.
        fading: How choices fade from popularity; None: all count alike.
    """
    values = torch.from_numpy(data.interactions.values)
    met = _met(data)
    with torch.no_grad():
        net.met.copy_(met)
        net.log_share.copy_(_log_share(popularity(data, fading), met))
        net.features.copy_(torch.from_numpy(data.item_features) * content_scale(data))
        net.unit.copy_(values.clamp_min(0.0).log1p().mean().clamp_min(1e-6))


def popularity(data: TaskData, fading: Fading | None, until: float | None = None) -> Tensor:
    """Choices of each item, faded but together as many as there are, ``[I]`` float64.

    Args:
        data: Whose choices are counted.
        fading: How they fade; None: all count alike.
        until: Only choices before this time, in seconds since 1970, and faded as of then.
    """
    counts = liked_counts(data)
    # Half a choice is added to each item: it must not weigh more where more has faded.
    return counts if fading is None else counts.sum() * fading.share(data, until)


def _log_share(counts: Tensor, met: Tensor) -> Tensor:
    log_share = torch.log(counts.float() + 0.5)
    return (log_share - log_share[met].mean()) * met


@dataclass(frozen=True, slots=True)
class Arrivals:
    """How popular items were when each training user came.

    With the popularity of today a training user of long ago would teach that what is in fashion now
    was chosen less often than it should have been.

    Attributes:
        moments: The moment of each user: the latest one before the first interaction, ``[U]``.
        log_shares: ``log_share`` of the network as of each moment, ``[M, I]``.
    """

    moments: Tensor
    log_shares: Tensor

    @classmethod
    def of(cls, data: TaskData, fading: Fading, device: torch.device) -> Arrivals:
        """Popularity as of some moments, equally many interactions apart."""
        matrix, met = data.interactions, _met(data)
        assert matrix.times is not None, "tasks cut by time have times"
        moments = np.unique(np.quantile(matrix.times, np.arange(_MOMENTS) / _MOMENTS))
        first = np.full(matrix.n_users, matrix.times.max())
        np.minimum.at(first, np.repeat(np.arange(matrix.n_users), matrix.counts()), matrix.times)
        return cls(
            torch.from_numpy(np.searchsorted(moments, first, side="right") - 1).to(device),
            torch.stack(
                [_log_share(popularity(data, fading, float(moment)), met) for moment in moments]
            ).to(device),
        )


def content_scale(data: TaskData) -> Tensor:
    """What each column of the items' content is multiplied with before the network, ``[Fi]``."""
    size = torch.from_numpy(data.item_features)[_met(data)].square().mean(dim=0).sqrt()
    # All content together weighs as little as an id, so that ids learn something by themselves.
    unit = torch.where(size > 0, size, torch.ones_like(size)) * max(int((size > 0).sum()), 1) ** 0.5
    scale: Tensor = _CONTENT_NORM / unit
    return scale


def _met(data: TaskData) -> Tensor:
    return torch.bincount(torch.from_numpy(data.interactions.items), minlength=data.n_items) > 0


class Objective:
    """Losses of the network on training and validation tasks."""

    def __init__(
        self,
        net: AmortisedNet,
        rates: DropRates,
        top: Top,
        validation: TaskData,
        context: FitContext,
        arrivals: Arrivals | None = None,
    ) -> None:
        self.net: nn.Module = net
        self._arrivals = arrivals
        self._rates = rates
        self._top = top
        self._explicit = validation.scale.feedback is Feedback.EXPLICIT
        self._relevant_from = validation.scale.relevant_from
        self._device = context.device
        self.tasks = evaluation_episodes(
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
        keep, shown, known = self._kept(net, len(episode.users), generator)
        table = net.items(keep, shown)
        evidence = self._evidence(net, episode.support)
        features = evidence.user_features * known.unsqueeze(-1)
        evidence = evidence._replace(user_features=features)
        mean, _ = net.read(table, evidence, Dropout(self._rates.units, generator))
        nll, count = self._nll(net, table, mean, episode, self._earlier(net, keep, episode.users))
        return nll / count + self._spread(net, table, evidence, episode)

    def validate(self, net: nn.Module) -> Mapping[str, float]:
        """``loss``: negative log likelihood of a weighted target, over all validation tasks."""
        assert isinstance(net, AmortisedNet)
        total, targets = 0.0, 0.0
        with torch.no_grad():
            table = net.items(net.met, torch.ones_like(net.met))
            for batch in self.tasks.batches(_VALIDATION_BATCH):
                episode = batch.episode.to(self._device)
                mean, _ = net.read(table, self._evidence(net, episode.support))
                nll, count = self._nll(net, table, mean, episode)
                total, targets = total + float(nll), targets + float(count)
        return {"loss": total / max(targets, 1.0)}

    def _thinned(self, episode: Episode, generator: torch.Generator) -> Episode:
        """Some supports without what is not relevant: those that serve histories of likes."""
        support = episode.support
        if not self._explicit or self._rates.not_relevant == 0.0:
            return episode
        drawn = torch.rand(len(support.items), 1, generator=generator).to(self._device)
        kept = (drawn >= self._rates.not_relevant) | (support.values >= self._relevant_from)
        return replace(episode, support=replace(support, mask=support.mask & kept))

    def _kept(
        self, net: AmortisedNet, n_users: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What a step keeps, as 1 where it is kept and 0 where not.

        Some steps do without ids or without features altogether; in all others some items are
        new and the content of some items and the features of some users are unknown.

        Returns:
            Ids ``[I]`` and content ``[I]`` of items, features of users ``[B]``.
        """
        mode = float(torch.rand((), generator=generator))
        ids = torch.rand(net.sizes.n_items, generator=generator)
        features = torch.rand(net.sizes.n_items + n_users, generator=generator)
        no_ids = mode < self._rates.modes / 2.0
        no_features = not no_ids and mode < self._rates.modes
        keep = (ids >= (1.0 if no_ids else self._rates.ids * (not no_features))).float()
        seen = features >= (1.0 if no_features else self._rates.features * (not no_ids))
        # Without id and content nothing would be left of an item.
        shown = (seen[: net.sizes.n_items] | (keep == 0.0)).to(keep)
        users = seen[net.sizes.n_items :].float()
        return net.met * keep.to(self._device), shown.to(self._device), users.to(self._device)

    def _earlier(self, net: AmortisedNet, keep: Tensor, users: Tensor) -> Tensor | None:
        """What the appeal of items lacked when the users came, ``[B, I]``; None: nothing."""
        if self._arrivals is None:
            return None
        then = self._arrivals.log_shares[self._arrivals.moments[users]]
        return net.popularity * keep * (then - net.log_share)

    def _evidence(self, net: AmortisedNet, support: Support) -> Evidence:
        return Evidence.of(support, self._relevant_from, net.unit, explicit=self._explicit)

    def _nll(
        self,
        net: AmortisedNet,
        table: ItemTable,
        mean: Tensor,
        episode: Episode,
        earlier: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Negative log likelihood summed over weighted targets, and the sum of their weights.

        The support is known: it is no candidate. Nor is an item that nobody has met: that would
        teach that content like its own is never chosen.
        """
        logits = torch.addmm(table.appeal, mean, table.values.mT)
        logits = logits if earlier is None else logits + earlier
        support = episode.support
        closed = torch.zeros_like(logits, dtype=torch.int32)
        closed.scatter_add_(1, support.items, support.mask.int())
        closed = (closed > 0) | (net.met == 0)
        logits = logits.masked_fill(closed, -torch.inf)
        log_p = functional.log_softmax(logits, dim=-1)
        near_top = top_weights(logits, self._top.place, self._top.tail)
        # A validation user may have met what no training user has.
        target = self._relevant(episode) & (net.met[episode.items] > 0)
        weight = near_top.gather(1, episode.items) * target
        # Masked before the product: 0 times the log of 0 is no number.
        picked = log_p.gather(1, episode.items).masked_fill(~target, 0.0)
        return -(weight * picked).sum(), weight.sum().clamp_min(_LEAST)

    def _relevant(self, episode: Episode) -> Tensor:
        return episode.mask & (episode.values >= self._relevant_from)

    def _spread(
        self, net: AmortisedNet, table: ItemTable, evidence: Evidence, episode: Episode
    ) -> Tensor:
        """Gaussian negative log likelihood of settled preferences; teaches the spread alone."""
        query = Support(episode.items, episode.values, episode.mask, evidence.user_features)
        later = self._evidence(net, query)
        everything = Evidence(
            torch.cat([evidence.items, later.items], dim=1),
            torch.cat([evidence.liked, later.liked], dim=1),
            torch.cat([evidence.disliked, later.disliked], dim=1),
            evidence.user_features,
        )
        with torch.no_grad():
            mean, read = net.read(table, evidence)
            moved = (net.read(table, everything)[0] - mean).square().mean(dim=1)
        spread = net.spread(read)
        return 0.5 * (spread.log() + moved / spread).mean()


def calibrate(
    net: AmortisedNet, data: TaskData, tasks: EvaluationTasks, device: torch.device
) -> None:
    """Fit the level of spreads, and their shape, to the moves of users not trained on.

    A training user's ids are known by heart, so that their preference moves otherwise than a new
    one's. A move is the difference between the preferences read from all interactions of a user
    and from a support.

    Args:
        net: The trained network; changed in place.
        data: The validation tasks.
        tasks: Their supports, of several sizes.
        device: Where tensors live.
    """
    explicit = data.scale.feedback is Feedback.EXPLICIT

    def evidence(support: Support) -> Evidence:
        wide = support.to(device)
        return Evidence.of(wide, data.scale.relevant_from, net.unit, explicit=explicit)

    moves: list[Tensor] = []
    spreads: list[Tensor] = []
    sizes: list[Tensor] = []
    with torch.no_grad():
        table = net.items(net.met, torch.ones_like(net.met))
        for batch in tasks.batches(_VALIDATION_BATCH):
            known = evidence(batch.episode.support)
            mean, read = net.read(table, known)
            settled, _ = net.read(table, evidence(full_support(data, batch.users)))
            moves.append((settled - mean).double())
            spreads.append(net.spread(read).double())
            sizes.append(known.liked.sum(dim=1).double().log1p())
        if not moves:
            return
        move, spread, size = torch.cat(moves), torch.cat(spreads), torch.cat(sizes)
        surplus = move.square().mean(dim=1) / spread
        growth = _fit_growth(surplus, size)
        scaled = move * (spread * torch.exp(growth[0] + growth[1] * size)).rsqrt().unsqueeze(1)
        shape = scaled.mT @ scaled / len(scaled)
        # Fewer moves than dimensions leave directions empty: some of it is spread over all.
        rest = move.shape[1] / (move.shape[1] + len(move))
        shape = (1.0 - rest) * shape + rest * torch.diag(shape.diagonal().clamp_min(1e-9))
        net.growth += growth.to(net.growth)
        net.shape.copy_(shape)


def _fit_growth(surplus: Tensor, size: Tensor) -> Tensor:
    """``a, b`` such that ``exp(a + b size)`` is the mean of ``surplus``: a Gamma regression.

    Newton's method on the convex ``sum(eta + surplus exp(-eta))``, from the constant fit.
    """
    design = torch.stack([torch.ones_like(size), size], dim=1)
    fit = torch.stack([surplus.mean().clamp_min(1e-9).log(), size.new_zeros(())])
    for _ in range(_NEWTON_STEPS):
        weight = surplus * torch.exp(-(design @ fit))
        gradient = design.mT @ (1.0 - weight)
        curvature = design.mT @ (weight.unsqueeze(1) * design)
        curvature += 1e-6 * len(size) * torch.eye(2, dtype=size.dtype, device=size.device)
        fit = fit - torch.linalg.solve(curvature, gradient).clamp(-1.0, 1.0)
    return fit
