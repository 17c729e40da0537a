"""Why a block of users is given its entries: shares, deletions, features, places without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from metarec_core.episodes.types import Support
from metarec_core.learners.base import (
    Counterfactual,
    Deletions,
    FeatureShares,
    LinearPredictor,
    Predictor,
)
from metarec_core.ranking.grid import on_grid
from metarec_core.ranking.reason_arrays import DoubleArray, ReasonArrays
from metarec_core.ranking.topk import top_k

__all__ = ["Asked", "DoubleArray", "ReasonArrays", "ReasonDetail", "explain"]

MOST_SHARES = 1 << 22
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


@dataclass(frozen=True, slots=True)
class Asked:
    """Entries of a block of users.

    Attributes:
        predictor: The block's predictor.
        support: Its support, ``[B, S]``.
        items: Catalogue indices of the entries, ``[B, K]``.
        n_users: Real users in the block: its first rows.
        pool: Candidates among which an entry's place without its strongest reason is sought, as
            catalogue indices ``[B, P]``, -1 for none; None: not asked.
    """

    predictor: LinearPredictor
    support: Support
    items: Tensor
    n_users: int
    pool: Tensor | None = None

    def part(self, start: int, stop: int) -> Asked:
        """Some of the entries; the same tensor if all: a predictor may know it from its figures."""
        if stop - start >= self.items.shape[1]:
            return self
        return replace(self, items=self.items[:, start:stop])


def explain(
    blocks: Sequence[Asked], n_named: int, *, detail: ReasonDetail | None = None
) -> ReasonArrays:
    """Reasons of the users of some blocks, one after the other.

    Shares lie on the grid of :mod:`metarec_core.ranking.grid`, so that they add up exactly
    whatever the learner's own precision. The interactions that are named are those that bring
    most, exact share and deletion together.

    Args:
        blocks: At least one, of one learner whose predictors are linear; their supports are of one
            width, their entries as many.
        n_named: Support interactions to name, 0 or more.
        detail: What else is asked; None for shares alone.
    """
    detail = detail or ReasonDetail()
    n_entries, n_named = blocks[0].items.shape[1], min(n_named, blocks[0].support.items.shape[1])
    tried = [_tried(one.predictor, one.support, one.items, detail.deletions) for one in blocks]
    rows = sum(one.support.items.numel() for one in blocks)
    step = max(1, MOST_SHARES // max(1, rows))
    parts: list[list[Tensor]] = []
    # Once also for lists without entries, which have reasons of the same shapes.
    for start in range(0, max(1, n_entries), step):
        own = [one.part(start, start + step) for one in blocks]
        named = _Named.of(own, n_named, tried)
        places = torch.split(named.places, [one.n_users for one in own])
        features = [_features(one.predictor, one.items, one.n_users, detail) for one in own]
        without = [
            _without(one.predictor, one.items, place, one.n_users, one.pool)
            for one, place in zip(own, places, strict=True)
        ]
        parts.append([*named.arrays(), *_stacked(features), *_stacked(without)])
    whole = parts[0] if len(parts) == 1 else [_joined(same, 1) for same in zip(*parts, strict=True)]
    return ReasonArrays(*(tensor.cpu().numpy() for tensor in whole))


def _stacked(blocks: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The same arrays of some blocks, one below the other."""
    return [_joined(same, 0) for same in zip(*blocks, strict=True)]


def _joined(tensors: Sequence[Tensor], dim: int) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors), dim=dim)


def _tried(predictor: Predictor, support: Support, items: Tensor, deletions: int) -> Tensor | None:
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
    def of(cls, blocks: Sequence[Asked], n_named: int, tried: Sequence[Tensor | None]) -> _Named:
        shares = [_shares(one, which) for one, which in zip(blocks, tried, strict=True)]
        item, prior, by_support, beyond, lost = _stacked(shares)
        items, values, mask, sizes = _stacked(
            [
                [
                    each[: one.n_users]
                    for each in (
                        one.support.items,
                        one.support.values,
                        one.support.mask,
                        one.support.sizes,
                    )
                ]
                for one in blocks
            ]
        )
        outside = ~mask.unsqueeze(1)
        by_support = by_support.masked_fill(outside, 0.0)
        effect = on_grid(by_support)
        asked = tried[0] is not None
        if asked:
            effect = effect + lost.nan_to_num()
        places = _strongest(effect.abs().masked_fill(outside, -1.0), n_named)
        rows = torch.arange(len(items), device=items.device)[:, None, None]
        there = mask[rows, places]
        unnamed = by_support.scatter(2, places, 0.0).sum(dim=2)
        return cls(
            item=on_grid(item),
            prior=on_grid(prior),
            named=on_grid(by_support.gather(2, places)),
            named_item=items[rows, places].masked_fill(~there, -1),
            named_value=values[rows, places].double(),
            rest=on_grid(unnamed).masked_fill((sizes <= n_named).unsqueeze(1), torch.nan),
            beyond=on_grid(beyond),
            deletion=lost.gather(2, places) if asked else lost.new_full(places.shape, torch.nan),
            places=places.masked_fill(~there, -1),
        )

    def arrays(self) -> Iterator[Tensor]:
        """What reasons hold, in their order."""
        return (getattr(self, field.name) for field in fields(self) if field.name != "places")


def _shares(block: Asked, tried: Tensor | None) -> tuple[Tensor, ...]:
    """Shares of the item, the prior and each support entry, what is beyond, what deletions lose.

    Returns:
        ``[T, K]``, ``[T, K]``, ``[T, K, S]``, ``[T, K]`` (NaN where nothing is beyond) and
        ``[T, K, S]``, NaN where it was not asked; without any asked it is empty.
    """
    n_users, shares = block.n_users, block.predictor.shares(block.items)
    item, by_support = shares.item[:n_users].double(), shares.support[:n_users].double()
    beyond = shares.beyond
    told = torch.full_like(item, torch.nan) if beyond is None else beyond[:n_users].double()
    lost = by_support.new_empty((n_users, 0, 0))
    if tried is not None:
        assert isinstance(block.predictor, Deletions)
        width = by_support.shape[2]
        # A column more takes what stands for no entry.
        lost = by_support.new_full((*by_support.shape[:2], width + 1), torch.nan)
        asked = on_grid(block.predictor.deletions(block.items, tried)[:n_users])
        where = tried[:n_users].masked_fill(tried[:n_users] < 0, width)
        lost.scatter_(2, where.unsqueeze(1).expand_as(asked), asked)
        lost = lost[..., :-1]
    return item, shares.prior[:n_users].double(), by_support, told, lost


def _strongest(strength: Tensor, n_named: int) -> Tensor:
    """Positions of the strongest entries, ``[T, K, N]``."""
    shape = strength.shape[:2]
    if not n_named:
        return torch.zeros(*shape, 0, dtype=torch.int64, device=strength.device)
    return top_k(strength.flatten(0, 1), n_named).indices.view(*shape, n_named)


def _features(
    predictor: Predictor, items: Tensor, n_users: int, detail: ReasonDetail
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
    predictor: Predictor, items: Tensor, places: Tensor, n_users: int, pool: Tensor | None
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
