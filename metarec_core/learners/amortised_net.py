"""The network behind the amortised learner: item tables, and a reader of support sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from metarec_core.episodes.types import Support

_LOG_SPREAD = (-12.0, 6.0)
"""Limits of what the network says of a preference's variance: none vanishes, none explodes."""

SIZE_FEATURES = 4
_SIZE_UNIT = 3.0


class ItemTable(NamedTuple):
    """What the network knows of each item; the first dimension is the catalogue.

    Attributes:
        keys: What an item in a support says of its user, ``[I, d]``.
        values: What a preference is multiplied with, ``[I, d]``.
        appeal: What makes an item chosen by anyone, ``[I]``.
    """

    keys: Tensor
    values: Tensor
    appeal: Tensor


class ContentPart(NamedTuple):
    """What content makes of the scores: ``c_if (gain_i C_f' w + new_i a'_f)`` for column ``f``.

    Attributes:
        features: ``c``, ``[I, Fi]``; zero where content does not count.
        values: ``C``, ``[d, Fi]``.
        appeal: ``a'``, ``[Fi]``.
        gain: What values are multiplied with, ``[I]``.
        new: 1 where an item's appeal comes from its content, ``[I]``.
    """

    features: Tensor
    values: Tensor
    appeal: Tensor
    gain: Tensor
    new: Tensor


class Evidence(NamedTuple):
    """Supports as weights: what was liked, and what was met but not liked.

    Attributes:
        items: Catalogue indices, ``[B, S]``.
        liked: Weight of each entry as something liked, ``[B, S]``; 0 for others and padding.
        disliked: Weight of each entry as something not liked, ``[B, S]``; 0 for others, padding.
        user_features: ``[B, Fu]``.
    """

    items: Tensor
    liked: Tensor
    disliked: Tensor
    user_features: Tensor

    @classmethod
    def of(
        cls, support: Support, relevant_from: float, unit: Tensor, *, explicit: bool
    ) -> Evidence:
        """Weigh a batch of supports.

        An explicit rating counts once, as liked from ``relevant_from`` on. An event of implicit
        feedback counts ``log(1 + weight) / unit``.
        """
        if explicit:
            liked = support.mask & (support.values >= relevant_from)
            weights = (liked, support.mask & ~liked)
        else:
            weight = support.values.clamp_min(0.0).log1p() / unit.to(support.values)
            weights = (weight * support.mask, torch.zeros_like(weight))
        features = support.user_features
        return cls(support.items, weights[0].to(features), weights[1].to(features), features)


class Preference(NamedTuple):
    """Gaussian preferences ``N(mean_u, spread_u C)``, ``C`` one matrix for all users.

    Attributes:
        mean: ``[B, d]``.
        spread: ``[B]``.
    """

    mean: Tensor
    spread: Tensor


@dataclass(frozen=True, slots=True)
class NetSizes:
    """Shapes of the network; ``id_items`` is 0 where items have no id part."""

    n_items: int
    id_items: int
    item_features: int
    user_features: int
    dim: int
    hidden: int
    layers: int


class Dropout:
    """Inverted dropout whose masks come from a generator that is passed in, or no dropout."""

    def __init__(self, rate: float, generator: torch.Generator | None) -> None:
        self.rate = rate
        self.generator = generator

    def __call__(self, x: Tensor) -> Tensor:
        """``x`` with entries dropped."""
        if self.generator is None or self.rate == 0.0:
            return x
        drawn = torch.rand(x.shape, generator=self.generator).to(x.device)
        return x * (drawn >= self.rate) / (1.0 - self.rate)


NO_DROPOUT = Dropout(0.0, None)


class AmortisedNet(nn.Module):
    """Values ``keep_i E_i + C c_i``, keys beside them, and a residual network over sums of keys.

    Keys are the values, mapped by one matrix that starts as the identity, plus a part of their own
    that starts at zero: what is chosen together then attracts each other from the first step on.
    Without it a few hundred users taught keys next to nothing.

    Attributes:
        log_share: Centred log of each item's relevant interactions in training, ``[I]``.
        met: 1 where an item was met in training, ``[I]``.
        features: Content of the catalogue, columns scaled alike, ``[I, Fi]``.
        unit: What event weights are measured in, scalar.
        shape: ``C``, ``[d, d]``, symmetric positive definite.
        growth: What the log spread of a *new* user has beyond the network's: a constant, and a
            slope by ``log(1 + liked)``, ``[2]``.
    """

    log_share: Tensor
    met: Tensor
    features: Tensor
    unit: Tensor
    shape: Tensor
    growth: Tensor

    def __init__(self, sizes: NetSizes) -> None:
        super().__init__()
        self.sizes = sizes
        dim, hidden = sizes.dim, sizes.hidden
        self.id_keys = nn.Parameter(torch.zeros(sizes.id_items, dim))
        self.id_values = nn.Parameter(torch.randn(sizes.id_items, dim) * 0.05)
        self.id_appeal = nn.Parameter(torch.zeros(sizes.id_items))
        self.popularity = nn.Parameter(torch.ones(()))
        self.content_keys = nn.Parameter(torch.zeros(dim, sizes.item_features))
        self.content_values = nn.Parameter(torch.randn(dim, sizes.item_features) * 0.02)
        self.content_appeal = nn.Parameter(torch.zeros(sizes.item_features))
        self.new_appeal = nn.Parameter(torch.zeros(()))
        self.mirror = nn.Parameter(torch.eye(dim))
        self.alone = nn.Parameter(torch.zeros(4))
        self.disliked = nn.Parameter(torch.zeros(dim))
        self.size = nn.Linear(SIZE_FEATURES, dim)
        self.user = nn.Parameter(torch.randn(dim, sizes.user_features) * 0.1)
        self.inner = nn.ModuleList(nn.Linear(dim, hidden) for _ in range(sizes.layers))
        self.outer = nn.ModuleList(nn.Linear(hidden, dim) for _ in range(sizes.layers))
        self.log_spread = nn.Linear(dim + SIZE_FEATURES, 1)
        nn.init.zeros_(self.log_spread.weight)
        for name in ("log_share", "met"):
            self.register_buffer(name, torch.zeros(sizes.n_items))
        self.register_buffer("features", torch.zeros(sizes.n_items, sizes.item_features))
        self.register_buffer("unit", torch.ones(()))
        self.register_buffer("shape", torch.eye(dim))
        self.register_buffer("growth", torch.zeros(2))

    def items(self, keep: Tensor, shown: Tensor) -> ItemTable:
        """Tables of the whole catalogue.

        Args:
            keep: 0 where the item is treated as new, without id part and popularity, ``[I]``.
            shown: 0 where the item is treated as without content, ``[I]``.
        """
        features = self.features * shown.unsqueeze(-1)
        keys = functional.linear(features, self.content_keys)
        values = functional.linear(features, self.content_values)
        appeal = features @ self.content_appeal + self.new_appeal
        if self.sizes.id_items == 0:
            return ItemTable(keys + values @ self.mirror, values, appeal)
        known = keep.unsqueeze(-1)
        gain = self._gain(keep, shown).unsqueeze(-1)
        own = self.id_appeal + self.popularity * self.log_share
        values = gain[1] * (known * self.id_values + values)
        return ItemTable(
            keys=gain[0] * (known * self.id_keys + keys) + values @ self.mirror,
            values=values,
            appeal=keep * own + (1.0 - keep) * appeal,
        )

    def _gain(self, keep: Tensor, shown: Tensor) -> Tensor:
        """What keys and values are multiplied with, ``[2, I]``: one part alone does all work."""
        alone = keep * (1.0 - shown) * self.alone[:2].unsqueeze(-1)
        alone = alone + (1.0 - keep) * shown * self.alone[2:].unsqueeze(-1)
        return alone.exp()

    def content(self, keep: Tensor, shown: Tensor) -> ContentPart:
        """The part of :meth:`items` that is linear in content, with the same arguments."""
        no_ids = self.sizes.id_items == 0
        return ContentPart(
            features=self.features * shown.unsqueeze(-1),
            values=self.content_values,
            appeal=self.content_appeal,
            gain=torch.ones_like(keep) if no_ids else self._gain(keep, shown)[1],
            new=torch.ones_like(keep) if no_ids else 1.0 - keep,
        )

    def read(
        self, table: ItemTable, evidence: Evidence, dropout: Dropout = NO_DROPOUT
    ) -> tuple[Tensor, Tensor]:
        """Mean of each preference, and what its spread is predicted from, ``[B, d + 4]``."""
        sizes = self._size_features(evidence)
        liked = _pool(table.keys, evidence.items, evidence.liked)
        disliked = _pool(table.keys, evidence.items, evidence.disliked) * self.disliked
        users = functional.linear(evidence.user_features, self.user)
        state = dropout(torch.tanh(liked + disliked + self.size(sizes) + users))
        mean = state
        for inner, outer in zip(self.inner, self.outer, strict=True):
            mean = mean + outer(dropout(functional.gelu(inner(mean))))
        return mean, torch.cat([state, sizes], dim=-1)

    def spread(self, read: Tensor) -> Tensor:
        """How wide each preference is, ``[B]``, from the second output of :meth:`read`."""
        raw = self.log_spread(read).squeeze(-1)
        known = read[:, -SIZE_FEATURES] * _SIZE_UNIT
        log_spread: Tensor = raw + self.growth[0] + self.growth[1] * known
        return log_spread.clamp(*_LOG_SPREAD).exp()

    def preference(self, table: ItemTable, evidence: Evidence) -> Preference:
        """Gaussian preferences of a batch of users."""
        mean, read = self.read(table, evidence)
        return Preference(mean, self.spread(read))

    def _size_features(self, evidence: Evidence) -> Tensor:
        """How much is known, ``[B, 4]``: sums over entries do not say it."""
        liked = evidence.liked.sum(dim=1)
        disliked = evidence.disliked.sum(dim=1)
        return torch.stack(
            [
                liked.log1p() / _SIZE_UNIT,
                (liked + 1.0).rsqrt(),
                (liked == 0).to(liked),
                disliked.log1p() / _SIZE_UNIT,
            ],
            dim=-1,
        )


def _pool(keys: Tensor, items: Tensor, weights: Tensor) -> Tensor:
    """``sum_s w_s key_s / sqrt(1 + sum_s w_s)``, ``[B, d]``; nothing of ``[B, S, d]`` is held."""
    if items.shape[1] == 0:
        return keys.new_zeros(len(items), keys.shape[1])
    total = functional.embedding_bag(items, keys, per_sample_weights=weights, mode="sum")
    return total * (weights.sum(dim=1, keepdim=True) + 1.0).rsqrt()
