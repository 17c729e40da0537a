"""What an average predicts for a batch of users."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from metarec_core.episodes.types import Support
from metarec_core.learners.average_weights import ListWeights, ValueWeights, decidedness
from metarec_core.learners.base import (
    CrossValidated,
    Deletions,
    FeatureShares,
    LinearPredictor,
    Predictor,
    Shares,
    UncertainContrasts,
    UncertainScores,
)
from metarec_core.learners.leave_out import LeaveOut

_FLAT = 1e-6
"""Sd of scores below which a member says nothing of the user's items."""

_PROBES = 32
"""Items that say how unsure a member is of a user on the whole."""

_LEAST = 1e-9
"""Part of the error that any member has at least, by that of the one with most."""


class AveragePredictor:
    """Lists and values of ``B`` users from ``M`` members.

    Args:
        members: The members' predictors.
        lists: Weights of the members' scores.
        values: Weights of the members that predict values; None: no values.
        support: What is known.
        speaks: Which of those members has a say on the value of each item, ``[I, M']`` bool.
        others: Adapts the average to the support without an entry.

    Attributes:
        decided: How decided each member is about each user, ``[B, M]``.
    """

    def __init__(
        self,
        members: Sequence[Predictor],
        lists: ListWeights,
        values: ValueWeights | None,
        support: Support,
        speaks: Tensor | None = None,
        others: LeaveOut | None = None,
    ) -> None:
        self._members = members
        self._others = others
        self._speaks = speaks
        self._values = values
        self._support = support
        # Member by member: all their scores together would be M times as large as the result.
        centers, factors, decided = [], [], []
        total: Tensor | None = None
        for place, member in enumerate(members):
            center, scale, standard = _standardised(member)
            decided.append(decidedness(standard))
            with torch.no_grad():
                weight = lists(
                    support.sizes, decided[-1][:, None].float(), slice(place, place + 1)
                ).double()
            part = weight * standard
            total = part if total is None else total.add_(part)
            centers.append(center)
            factors.append(weight / scale)
        assert total is not None
        self._total = total
        self._centers, self._factors = centers, factors
        self.decided = torch.stack(decided, dim=1)

    def standard_scores(self) -> Tensor:
        """Members' scores on the common scale, ``[B, I, M]``; made when asked for."""
        return torch.stack([_standardised(member)[2] for member in self._members], dim=2)

    def scores(self, items: Tensor | None = None) -> Tensor:
        """List scores, ``[B, K]`` or ``[B, I]``."""
        return self._total if items is None else self._total.gather(1, items)

    def member_values(self, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Means and predictive variances of the members that predict values.

        Returns:
            Two tensors ``[B, K, M']`` or ``[B, I, M']``.
        """
        pairs = [member.mean_var(items) for member in self._members]
        valued = [pair for pair in pairs if not bool(pair[0].isnan().any())]
        if not valued:
            nothing = self.scores(items).unsqueeze(-1)[..., :0]
            return nothing, nothing
        means, variances = zip(*valued, strict=True)
        return (
            torch.stack([mean.double() for mean in means], dim=-1),
            torch.stack([variance.double() for variance in variances], dim=-1),
        )

    def valued(self) -> list[bool]:
        """Whether each member predicts values."""
        first = torch.zeros_like(self._support.items[:, :1])
        first = first if first.shape[1] else first.new_zeros(len(first), 1)
        return [not bool(member.mean_var(first)[0].isnan().any()) for member in self._members]

    def mean_var(self, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Predicted value and predictive variance, within and between members; NaN without."""
        if self._values is None:
            unknown = torch.full_like(self.scores(items), torch.nan)
            return unknown, unknown
        mean, variance = self.member_values(items)
        with torch.no_grad():
            speaks = self._speaks
            if speaks is not None:
                speaks = speaks.expand_as(mean) if items is None else speaks[items]
            center, spread = self._values(
                self._support.sizes, self.misfit(), mean, variance, speaks
            )
        return center, spread

    def misfit(self) -> Tensor:
        """Squared standardised errors on the support, each value forecast from the others, ``[B]``.

        The mean over the members that know theirs and have a say on the item, summed over the
        support; its size on average where the members are right about the noise.
        """
        support = self._support
        total = torch.zeros_like(support.values, dtype=torch.float64)
        count = torch.zeros_like(total)
        place = -1
        for member, valued in zip(self._members, self.valued(), strict=True):
            place += valued
            if not valued or not isinstance(member, CrossValidated):
                continue
            say = support.mask if self._speaks is None else self._speaks[:, place][support.items]
            total += member.left_out() * say
            count += say
        # An item that nobody speaks of is as expected.
        per_item = torch.where(count > 0, total / count.clamp_min(1.0), 1.0)
        return (per_item * support.mask).sum(dim=1)

    def shares(self, items: Tensor) -> Shares:
        """Exact shares of the members' linear parts; what else they bring is ``beyond``."""
        zero = torch.zeros_like(self.scores(items))
        support = zero.new_zeros(*zero.shape, self._support.items.shape[1])
        item, prior = zero, zero.clone()
        beyond: Tensor | None = None
        for member, factor, center in zip(self._members, self._factors, self._centers, strict=True):
            # A constant of the user orders nothing: it belongs to what is true of every item.
            item = item - factor * center
            rest: Tensor | None
            if isinstance(member, LinearPredictor):
                shares = member.shares(items)
                item = item + factor * shares.item.double()
                prior = prior + factor * shares.prior.double()
                rest = shares.beyond
                if rest is None:
                    support = support + factor[..., None] * shares.support.double()
            else:
                rest = member.scores(items)
            if rest is not None:
                brought = factor * rest.double()
                beyond = brought if beyond is None else beyond + brought
        return Shares(item=item, prior=prior, support=support, beyond=beyond)

    def without(self, items: Tensor | None, entries: Tensor) -> Tensor:
        """Scores of the average adapted again without each of some entries, ``[B, K, N]``.

        The members' weights and scales are then those of the smaller support too.
        """
        assert self._others is not None
        return self._others.without(self.scores(items), items, entries)

    def hints(self, items: Tensor) -> Tensor:
        """How much each support entry matters for what ``beyond`` says of ``items``, ``[B, S]``."""
        total = torch.zeros_like(self._support.values, dtype=torch.float64)
        for member, factor in zip(self._members, self._factors, strict=True):
            if isinstance(member, Deletions):
                total += factor * member.hints(items)
        return total

    def deletions(self, items: Tensor, entries: Tensor) -> Tensor:
        """What ``beyond`` loses without each of some entries, weights held fixed, ``[B, K, N]``."""
        lost = torch.zeros_like(self.scores(items)).unsqueeze(-1).repeat(1, 1, entries.shape[1])
        for member, factor in zip(self._members, self._factors, strict=True):
            if isinstance(member, Deletions):
                lost += factor.unsqueeze(-1) * member.deletions(items, entries)
        return lost

    def feature_shares(self, items: Tensor) -> Tensor:
        """What columns of an item's content add through members linear in it, ``[B, K, Fi]``."""
        total = torch.zeros_like(self.scores(items)).unsqueeze(-1)[..., :0]
        for member, factor in zip(self._members, self._factors, strict=True):
            if isinstance(member, FeatureShares):
                brought = factor.unsqueeze(-1) * member.feature_shares(items)
                total = total + brought if total.shape[-1] else brought
        return total

    def contrast_variance(self, groups: Tensor) -> Tensor:
        """Variance of groups' mean scores less that of the catalogue, at most, ``[B, G]``.

        ``(sum_m f_m sd_m)^2`` over the members whose preference is a Gaussian, ``f_m`` what their
        scores are multiplied with. They learned from the same support, so that they err together,
        and how much together is not known: this is the variance if they do so wholly, exact for
        members that are the same and too large for others. The other members, weights and scales
        count as known.
        """
        sd = torch.full_like(self._total[:, :1], torch.nan).repeat(1, groups.shape[0])
        for member, factor in zip(self._members, self._factors, strict=True):
            if isinstance(member, UncertainContrasts):
                own = factor * member.contrast_variance(groups).clamp_min(0.0).sqrt()
                sd = torch.where(own.isnan(), sd, sd.nan_to_num() + own)
        return sd.square()


class UncertainAveragePredictor(AveragePredictor):
    """An average of which some member knows how unsure its scores are."""

    def score_covariance(self, items: Tensor) -> Tensor:
        """``sum_m f_m^2 / p_m C_m`` over the members whose scores have a covariance ``C_m``.

        Members learned from the same support, so that they err together, and how much together is
        not known. With shares ``p_m`` of sum 1 no combination of scores has a larger variance than
        by this matrix, however they do (Jensen's inequality); ``p_m`` is in proportion to
        ``f_m s_m``, ``s_m`` the member's own sd over items spread through the catalogue, which
        keeps it close and makes it exact for members that are the same. The other members count as
        known, and so do the factors ``f_m``: a member's weight by the sd of its scores.

        Returns:
            ``[B, P, P]`` float64.
        """
        total = torch.zeros((), dtype=torch.float64, device=items.device)
        for place, (member, factor) in enumerate(self._unsure):
            counts = factor.square() / self._parts[:, place : place + 1]
            total = total + counts.unsqueeze(-1) * member.score_covariance(items)
        return total

    @property
    def _unsure(self) -> list[tuple[UncertainScores, Tensor]]:
        """The members whose scores have a covariance, with their factors ``[B, 1]``."""
        pairs = zip(self._members, self._factors, strict=True)
        return [(one, factor) for one, factor in pairs if isinstance(one, UncertainScores)]

    @cached_property
    def _parts(self) -> Tensor:
        """``p_m``, ``[B, M']``: the same whatever items are asked for."""
        n_users, n_items = self._total.shape
        # Places of the catalogue, rounded down: the first is among them, no two are the same.
        probes = torch.arange(min(_PROBES, n_items), device=self._total.device) * n_items
        probes = (probes // min(_PROBES, n_items)).expand(n_users, -1)
        reach = torch.cat(
            [
                factor * _variances(member, probes).mean(dim=1, keepdim=True).sqrt()
                for member, factor in self._unsure
            ],
            dim=1,
        )
        # A member without any variance there has a little: it is divided by.
        largest = reach.amax(dim=1, keepdim=True)
        reach = reach.clamp_min(_LEAST * torch.where(largest > 0.0, largest, 1.0))
        return reach / reach.sum(dim=1, keepdim=True)


def _variances(member: UncertainScores, items: Tensor) -> Tensor:
    """Variances of a member's scores, ``[B, P]``."""
    return member.score_covariance(items).diagonal(dim1=1, dim2=2).clamp_min(0.0)


def _standardised(member: Predictor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and sd ``[B, 1]`` of a member's scores over the catalogue, and the scores by them."""
    scores = member.scores().double()
    center = scores.mean(dim=1, keepdim=True)
    off = scores - center
    sd = off.square().mean(dim=1, keepdim=True).sqrt()
    # A member that scores all items alike says nothing, whatever the last bits.
    scale = torch.where(sd > _FLAT * (1.0 + center.abs()), sd, torch.inf)
    return center, scale, off / scale
