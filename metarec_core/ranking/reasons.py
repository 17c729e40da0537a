"""Why a block of users is given its entries: shares, deletions, features, places without."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from metarec_core.episodes.types import Support
from metarec_core.learners.base import (
    Counterfactual,
    Deletions,
    FeatureShares,
    LinearPredictor,
)
from metarec_core.ranking.grid import on_grid
from metarec_core.ranking.reason_arrays import DoubleArray, ReasonArrays
from metarec_core.ranking.topk import top_k

__all__ = ["DoubleArray", "ReasonArrays", "ReasonDetail", "explain"]

_MOST_SHARES = 1 << 22
"""Shares (users x items x support width) made at once."""


@dataclass(frozen=True, slots=True)
class ReasonDetail:
    """What is asked beside the additive shares.

    Attributes:
        deletions: Support interactions a user that the part which is not linear is asked again
            without, the likeliest to matter; 0 for none.
        features: Features of its content named in each entry's reasons; 0 for none.
        groups: Named feature of each encoded column of content, ``[Fi]``; None: not known.
    """

    deletions: int = 0
    features: int = 0
    groups: Tensor | None = None


def explain(
    predictor: LinearPredictor,
    support: Support,
    items: Tensor,
    n_users: int,
    n_named: int,
    *,
    detail: ReasonDetail | None = None,
    pool: Tensor | None = None,
) -> ReasonArrays:
    """Reasons of the first ``n_users`` rows of a block.

    Shares lie on the grid of :mod:`metarec_core.ranking.grid`, so that they add up exactly
    whatever the learner's own precision. The interactions that are named are those that bring
    most, exact share and deletion together.

    Args:
        predictor: The block's predictor.
        support: The block's support, ``[B, S]``.
        items: Catalogue indices of the entries, ``[B, K]``.
        n_users: Real users in the block.
        n_named: Support interactions to name, 0 or more.
        detail: What else is asked; None for shares alone.
        pool: Candidates among which an entry's place without its strongest reason is sought, as
            catalogue indices ``[B, P]``, -1 for none; None: not asked.
    """
    detail = detail or ReasonDetail()
    n_named = min(n_named, support.items.shape[1])
    tried = _tried(predictor, support, items, detail.deletions)
    step = max(1, _MOST_SHARES // max(1, support.items.numel()))
    parts: list[tuple[Tensor, ...]] = []
    # Once also for lists without entries, which have reasons of the same shapes.
    for start in range(0, max(1, items.shape[1]), step):
        # The same tensor where there is one step: a predictor may know it from its figures.
        own = items if step >= items.shape[1] else items[:, start : start + step]
        named = _Named.of(predictor, support, own, n_users, n_named, tried)
        features = _features(predictor, own, n_users, detail)
        places = _without(predictor, own, named.places, n_users, pool)
        parts.append((*named.arrays(), *features, *places))
    return ReasonArrays(
        *(torch.cat(list(same), dim=1).cpu().numpy() for same in zip(*parts, strict=True))
    )


def _tried(
    predictor: LinearPredictor, support: Support, items: Tensor, deletions: int
) -> Tensor | None:
    """Positions ``[B, N]`` of the entries that deletions are asked for; -1 for none."""
    count = min(deletions, support.items.shape[1])
    if not count or not isinstance(predictor, Deletions):
        return None
    hints = on_grid(predictor.hints(items).double()).masked_fill(~support.mask, -1.0)
    best = top_k(hints, count)
    return best.indices.masked_fill(best.values < 0.0, -1)


@dataclass(frozen=True, slots=True)
class _Named:
    """The shares of some entries, the strongest interactions of each named; ``[T, K]`` and so on.

    Attributes:
        places: Positions in the support of the named, ``[T, K, N]``; -1 for none.
    """

    item: Tensor
    prior: Tensor
    named: Tensor
    named_item: Tensor
    named_value: Tensor
    rest: Tensor
    beyond: Tensor
    deletion: Tensor
    places: Tensor

    @classmethod
    def of(
        cls,
        predictor: LinearPredictor,
        support: Support,
        items: Tensor,
        n_users: int,
        n_named: int,
        tried: Tensor | None,
    ) -> _Named:
        shares = predictor.shares(items)
        mask = support.mask[:n_users, None, :]
        by_support = shares.support[:n_users].double().masked_fill(~mask, 0.0)
        lost: Tensor | None = None
        effect = on_grid(by_support)
        if tried is not None:
            assert isinstance(predictor, Deletions)
            # A column more takes what stands for no entry.
            lost = by_support.new_full((*by_support.shape[:2], by_support.shape[2] + 1), torch.nan)
            asked = on_grid(predictor.deletions(items, tried)[:n_users])
            where = tried[:n_users].masked_fill(tried[:n_users] < 0, by_support.shape[2])
            lost.scatter_(2, where.unsqueeze(1).expand_as(asked), asked)
            lost = lost[..., :-1]
            effect = effect + lost.nan_to_num()
        strength = effect.abs().masked_fill(~mask, -1.0)
        places = _strongest(strength, n_named)
        rows = torch.arange(n_users, device=items.device)[:, None, None]
        there = support.mask[rows, places]
        unnamed = by_support.scatter(2, places, 0.0).sum(dim=2)
        has_rest = support.sizes[:n_users, None] > n_named
        nothing = torch.full_like(unnamed, torch.nan)
        beyond = shares.beyond
        return cls(
            item=on_grid(shares.item[:n_users].double()),
            prior=on_grid(shares.prior[:n_users].double()),
            named=on_grid(by_support.gather(2, places)),
            named_item=support.items[rows, places].masked_fill(~there, -1),
            named_value=support.values[rows, places].double(),
            rest=on_grid(unnamed).masked_fill(~has_rest, torch.nan),
            beyond=nothing if beyond is None else on_grid(beyond[:n_users].double()),
            deletion=(
                places.new_full(places.shape, torch.nan, dtype=torch.float64)
                if lost is None
                else lost.gather(2, places)
            ),
            places=places.masked_fill(~there, -1),
        )

    def arrays(self) -> Iterator[Tensor]:
        """What reasons hold, in their order."""
        return (getattr(self, field.name) for field in fields(self) if field.name != "places")


def _strongest(strength: Tensor, n_named: int) -> Tensor:
    """Positions of the strongest entries, ``[T, K, N]``."""
    shape = strength.shape[:2]
    if not n_named:
        return torch.zeros(*shape, 0, dtype=torch.int64, device=strength.device)
    return top_k(strength.flatten(0, 1), n_named).indices.view(*shape, n_named)


def _features(
    predictor: LinearPredictor, items: Tensor, n_users: int, detail: ReasonDetail
) -> tuple[Tensor, Tensor]:
    """Shares of the strongest named features, ``[T, K, M]``, and which they are; -1 for none."""
    shape = (n_users, items.shape[1], detail.features)
    empty = torch.zeros(shape, dtype=torch.float64, device=items.device)
    none = torch.full(shape, -1, dtype=torch.int64, device=items.device)
    groups = detail.groups
    if not detail.features or groups is None or not isinstance(predictor, FeatureShares):
        return empty, none
    by_column = predictor.feature_shares(items)[:n_users]
    if by_column.shape[2] != len(groups) or not len(groups):
        return empty, none
    n_groups = int(groups.max()) + 1
    by_group = by_column.new_zeros(*by_column.shape[:2], n_groups)
    by_group = on_grid(by_group.index_add_(2, groups.to(items.device), by_column))
    count = min(detail.features, n_groups)
    best = _strongest(by_group.abs(), count)
    empty[..., :count] = by_group.gather(2, best)
    none[..., :count] = best.masked_fill(empty[..., :count] == 0.0, -1)
    return empty, none


def _without(
    predictor: LinearPredictor, items: Tensor, places: Tensor, n_users: int, pool: Tensor | None
) -> tuple[Tensor, Tensor]:
    """What each score loses without its strongest reason, and its place in the pool then."""
    lost = torch.zeros(n_users, items.shape[1], dtype=torch.float64, device=items.device)
    rank = torch.zeros(lost.shape, dtype=torch.int64, device=items.device)
    if pool is None or not places.shape[2] or not isinstance(predictor, Counterfactual):
        return lost, rank
    entries = torch.full_like(items, -1)
    entries[:n_users] = places[..., 0]
    asked = torch.cat([items, pool.clamp_min(0)], dim=1)
    scores = on_grid(predictor.without(asked, entries)[:n_users])
    k = items.shape[1]
    own = scores[:, :k].diagonal(dim1=1, dim2=2).unsqueeze(1)
    others, pool = scores[:, k:], pool[:n_users].unsqueeze(-1)
    listed = items[:n_users].unsqueeze(1)
    ahead = (others > own) | ((others == own) & (pool < listed))
    ahead &= (pool >= 0) & (pool != listed)
    there = entries[:n_users] >= 0
    before = on_grid(predictor.scores(items)[:n_users].double())
    return (before - own.squeeze(1)) * there, (ahead.sum(dim=1) + 1) * there
