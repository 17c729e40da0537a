"""What an average predicts for a batch of users."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from metarec_core.episodes.types import Support
from metarec_core.learners.average_weights import ListWeights, ValueWeights, decidedness
from metarec_core.learners.base import CrossValidated, LinearPredictor, Predictor, Shares

_FLAT = 1e-6
"""Sd of scores below which a member says nothing of the user's items."""


class AveragePredictor:
    """Lists and values of ``B`` users from ``M`` members.

    Args:
        members: The members' predictors.
        lists: Weights of the members' scores.
        values: Weights of the members that predict values; None: no values.
        support: What is known.
        speaks: Which of those members has a say on the value of each item, ``[I, M']`` bool.

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
    ) -> None:
        self._members = members
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
        """Exact shares of the linear members; what the others bring is ``beyond``."""
        zero = torch.zeros_like(self.scores(items))
        support = zero.new_zeros(*zero.shape, self._support.items.shape[1])
        item, prior = zero, zero.clone()
        beyond: Tensor | None = None
        for place, member in enumerate(self._members):
            factor = self._factors[place]
            # A constant of the user orders nothing: it belongs to what is true of every item.
            item = item - factor * self._centers[place]
            if isinstance(member, LinearPredictor):
                shares = member.shares(items)
                item = item + factor * shares.item.double()
                prior = prior + factor * shares.prior.double()
                support = support + factor[..., None] * shares.support.double()
            else:
                brought = factor * member.scores(items).double()
                beyond = brought if beyond is None else beyond + brought
        return Shares(item=item, prior=prior, support=support, beyond=beyond)


def _standardised(member: Predictor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and sd ``[B, 1]`` of a member's scores over the catalogue, and the scores by them."""
    scores = member.scores().double()
    center = scores.mean(dim=1, keepdim=True)
    off = scores - center
    sd = off.square().mean(dim=1, keepdim=True).sqrt()
    # A member that scores all items alike says nothing, whatever the last bits.
    scale = torch.where(sd > _FLAT * (1.0 + center.abs()), sd, torch.inf)
    return center, scale, off / scale
