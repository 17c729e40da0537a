"""The network that gradient steps adapt to a user, and those steps, batched over users."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from metarec_core.episodes.types import Support
from metarec_core.learners.item_net import ContentEncoder, ItemNet, ItemTable, NetSizes

_FARTHEST = 5.0
_LIST = "list"
_HEAD = ("head.weight", "head.bias", _LIST)

Fast = dict[str, Tensor]
"""What gradient steps change: layers by name, and ``list``, the user's vector for lists."""


class Variant(StrEnum):
    """Which method of the family."""

    MAML = "maml"
    FOMAML = "fomaml"
    ANIL = "anil"
    REPTILE = "reptile"


class InnerTask(NamedTuple):
    """What the steps of one user read; with a first dimension ``B`` for a batch.

    Attributes:
        user: User embedding, ``[h]``.
        items: Support items, ``[S]``.
        target: Residuals ``(r_s - mu) / unit - b_s``, ``[S]``.
        pull: How much lists should hold each support item, ``[S]``.
        mask: True where an entry is real, ``[S]``.
    """

    user: Tensor
    items: Tensor
    target: Tensor
    pull: Tensor
    mask: Tensor


class DecisionLayers(nn.Module):
    """``head gelu(second gelu(first [v_i; u]))``: a forecast of an item's residual for a user."""

    def __init__(self, item: int, user: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(item + user, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.head = nn.Linear(hidden, 1)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, items: Tensor, user: Tensor) -> Tensor:
        """Item vectors ``[K, d]`` and one user ``[h]`` to ``[K]``."""
        both = torch.cat([items, user.expand(len(items), -1)], dim=-1)
        hidden = functional.gelu(self.second(functional.gelu(self.first(both))))
        forecast: Tensor = self.head(hidden).squeeze(-1)
        return forecast


class MamlNet(ItemNet):
    """Item vectors, user embeddings, and the layers that are adapted to each user."""

    def __init__(
        self,
        sizes: NetSizes,
        item_shrinkage: float,
        *,
        rates: Mapping[str, float],
        damping: float,
    ) -> None:
        """Layers at their starting point.

        Args:
            sizes: Shapes.
            item_shrinkage: Interactions at which an id embedding counts for half.
            rates: Step sizes at the start: ``layers`` and ``list``.
            damping: Interactions at which the support's gradient counts for half.
        """
        super().__init__(sizes, item_shrinkage)
        self.damping = damping
        self.user = ContentEncoder(sizes.user_features, sizes.hidden, sizes.hidden)
        self.list_start = ContentEncoder(sizes.user_features, sizes.hidden, sizes.exposure)
        nn.init.zeros_(self.list_start.skip)
        self.layers = DecisionLayers(sizes.taste + 1, sizes.hidden, sizes.hidden)
        names = [*dict(self.layers.named_parameters()), _LIST]
        self._rates = {name: rates[_LIST if name == _LIST else "layers"] for name in names}
        # A factor of the configured rate, so that weight decay draws towards it.
        self.log_rates = nn.ParameterDict(
            {name.replace(".", "_"): nn.Parameter(torch.zeros(())) for name in names}
        )
        self.list_target = nn.Parameter(torch.tensor([1.0, 0.2]))
        self.unsure = nn.Parameter(torch.tensor([-2.0, 1.0]))

    def rates(self) -> Fast:
        """Step size of each tensor that is adapted, scalars."""
        return {
            name: rate * self.log_rates[name.replace(".", "_")].exp()
            for name, rate in self._rates.items()
        }

    def start(self, user_features: Tensor) -> Fast:
        """Where the steps of each user begin, ``[B, ...]``."""
        n = len(user_features)
        fast = {name: p.expand(n, *p.shape) for name, p in self.layers.named_parameters()}
        return {**fast, _LIST: self.list_start(user_features)}

    def tasks(self, table: ItemTable, support: Support) -> InnerTask:
        """What the steps of a batch of users read."""
        target = self.residual_of(table, support) * support.mask
        pull = self.list_target[0] + self.list_target[1] * target.clamp(-_FARTHEST, _FARTHEST)
        return InnerTask(
            self.user(support.user_features),
            support.items,
            target,
            pull * support.mask,
            support.mask,
        )

    def forecast(self, fast: Fast, vectors: Tensor, user: Tensor) -> Tensor:
        """Residuals of items ``[B, K, d]`` for users ``[B, h]``, adapted: ``[B, K]``."""
        layers = {name: tensor for name, tensor in fast.items() if name != _LIST}
        run = partial(functional_call, self.layers)
        forecast: Tensor = vmap(lambda own, items, one: run(own, (items, one)))(
            layers, vectors, user
        )
        return forecast

    def extra_variance(self, sizes: Tensor) -> Tensor:
        """``softplus(a) / (1 + n / softplus(c))``: of a user with ``n`` interactions, ``[B]``."""
        most, half = functional.softplus(self.unsure)
        extra: Tensor = most / (1.0 + sizes / (half + 1e-3))
        return extra


def inner_loss(
    adapted: Fast, kept: Fast, net: MamlNet, table: ItemTable, task: InnerTask, explicit: bool
) -> Tensor:
    """Loss of one user's support: squared error of ratings, and softmax over the catalogue.

    ``[sum_s (y_s - f(v_s))^2 / 2 - sum_s p_s log softmax(a + X z)_s] / (n + damping)``
    """
    fast = {**kept, **adapted}
    log_p = functional.log_softmax(table.appeal + table.exposure @ fast[_LIST], dim=-1)
    total = -(task.pull * log_p[task.items] * task.mask).sum()
    if explicit:
        layers = {name: tensor for name, tensor in fast.items() if name != _LIST}
        forecast = functional_call(net.layers, layers, (table.taste[task.items], task.user))
        total = total + 0.5 * ((forecast - task.target).square() * task.mask).sum()
    damped: Tensor = total / (task.mask.sum() + net.damping)
    return damped


def adapt_one(
    start: Fast,
    task: InnerTask,
    net: MamlNet,
    table: ItemTable,
    *,
    steps: int,
    variant: Variant,
    explicit: bool,
) -> Fast:
    """Gradient steps of one user; ``vmap`` makes it those of a batch.

    Args:
        start: Where they begin.
        task: The user's support.
        net: Whose layers are adapted.
        table: Item vectors.
        steps: Number of steps.
        variant: ``anil`` adapts the head and the list vector alone; ``fomaml`` and ``reptile``
            do not differentiate through the steps.
        explicit: Whether there are ratings to fit.

    Returns:
        The adapted tensors, together with those that were left alone.
    """
    names = _adapted_names(start, variant, explicit)
    adapted = {name: tensor for name, tensor in start.items() if name in names}
    kept = {name: tensor for name, tensor in start.items() if name not in names}
    rates = net.rates()
    second_order = variant in (Variant.MAML, Variant.ANIL)
    for _ in range(steps):
        slopes = grad(inner_loss)(adapted, kept, net, table, task, explicit)
        adapted = {
            name: tensor - rates[name] * (slopes[name] if second_order else slopes[name].detach())
            for name, tensor in adapted.items()
        }
    return {**kept, **adapted}


def adapt_batch(
    net: MamlNet,
    table: ItemTable,
    support: Support,
    *,
    steps: int,
    variant: Variant,
    explicit: bool,
) -> tuple[Fast, Tensor]:
    """Adapt a batch of users at once.

    Returns:
        The adapted tensors ``[B, ...]``, and the users' embeddings ``[B, h]``.
    """
    tasks = net.tasks(table, support)
    one = partial(adapt_one, net=net, table=table, steps=steps, variant=variant, explicit=explicit)
    return vmap(one)(net.start(support.user_features), tasks), tasks.user


def _adapted_names(start: Fast, variant: Variant, explicit: bool) -> set[str]:
    if not explicit:
        return {_LIST}
    return set(_HEAD) if variant is Variant.ANIL else set(start)
