"""How much each member of an average counts: by support size and by how decided it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from metarec_core.learners.top_weights import top_weights

KNOTS = (0, 1, 2, 5, 10, 20, 50)
"""Support sizes at which weights are learned; between them they are interpolated."""

_STEPS = 200
_RATE = 0.05


def by_size(sizes: Tensor) -> Tensor:
    """Shares of the knots at each support size, linear in ``log(1 + size)``.

    Args:
        sizes: ``[B]``.

    Returns:
        ``[B, len(KNOTS)]``, each row non-negative and of sum 1.
    """
    knots = torch.log1p(torch.tensor(KNOTS, dtype=torch.float32, device=sizes.device))
    place = torch.log1p(sizes.float()).clamp_max(float(knots[-1]))
    left = (torch.bucketize(place, knots, right=True) - 1).clamp(0, len(KNOTS) - 2)
    share = ((place - knots[left]) / (knots[left + 1] - knots[left])).clamp(0.0, 1.0)
    hats = place.new_zeros(len(place), len(KNOTS))
    hats.scatter_(1, left[:, None], (1.0 - share)[:, None])
    return hats.scatter_add(1, (left + 1)[:, None], share[:, None])


class ListWeights(nn.Module):
    """``w_m(k, c) = softplus(t_m(k) + g_m (c_m - mean c_m(k)))``, one weight a member and user.

    ``t_m`` is piecewise linear in ``log(1 + k)``; ``c_m`` says how decided member ``m`` is about
    this user (see :func:`decidedness`), against what is usual for it at that support size.

    Args:
        n_members: Members.
    """

    usual: Tensor

    def __init__(self, n_members: int) -> None:
        super().__init__()
        start = math.log(math.expm1(1.0 / n_members))
        self.level = nn.Parameter(torch.full((len(KNOTS), n_members), start))
        self.slope = nn.Parameter(torch.zeros(n_members))
        self.register_buffer("usual", torch.zeros(len(KNOTS), n_members))

    def forward(self, sizes: Tensor, decided: Tensor, members: slice = slice(None)) -> Tensor:
        """Weights of each user's members, which do not depend on one another.

        Args:
            sizes: Support sizes, ``[B]``.
            decided: How decided each of ``members`` is, ``[B, M]``.
            members: Which members; all by default.

        Returns:
            ``[B, M]``, positive.
        """
        hats = by_size(sizes)
        surprise = decided - hats @ self.usual[:, members]
        level = hats @ self.level[:, members]
        return functional.softplus(level + self.slope[members] * surprise)

    def of(self, members: Sequence[int]) -> ListWeights:
        """The weights of some members alone."""
        part = ListWeights(len(members))
        chosen = list(members)
        part.load_state_dict(
            {
                "level": self.level[:, chosen],
                "slope": self.slope[chosen],
                "usual": self.usual[:, chosen],
            }
        )
        return part

    def roughness(self) -> Tensor:
        """Squared steps between neighbouring knots plus squared slopes, a scalar."""
        return self.level.diff(dim=0).square().sum() + self.slope.square().sum()


class ValueWeights(nn.Module):
    """Weights of the members that predict values, of sum 1, and a scale of the variance.

    ``w_m(k, s2_m) ~ exp(t_m(k)) s2_m^-g``: members count by support size and, for each item, by
    how sure they are themselves, ``s2_m`` being their variance and ``g >= 0`` learned. ``t_m`` and
    the log of the scale are piecewise linear in ``log(1 + k)``. The scale is also the user's own:
    it is multiplied by ``((c + q) / (c + k))^h``, ``q`` the squared standardised errors of the
    members on the support, each value forecast from the others, and ``c > 0`` what they are held
    against (the mean of an inverse-gamma posterior over the noise of a user, Bishop 2006, section
    2.3.6, tempered by ``h``).

    Args:
        n_members: Members that predict values.
    """

    def __init__(self, n_members: int) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.zeros(len(KNOTS), n_members))
        self.log_scale = nn.Parameter(torch.zeros(len(KNOTS)))
        self.sureness = nn.Parameter(torch.zeros(()))
        self.log_prior_size = nn.Parameter(torch.tensor(2.0))
        self.temper = nn.Parameter(torch.zeros(()))

    def forward(
        self,
        sizes: Tensor,
        misfit: Tensor,
        mean: Tensor,
        variance: Tensor,
        speaks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance of the mixture: within members, and between them.

        Args:
            sizes: Support sizes, ``[B]``.
            misfit: ``q``, 0 without a support, ``[B]``.
            mean: Each member's prediction, ``[B, K, M]``.
            variance: Its predictive variance, ``[B, K, M]``.
            speaks: False where a member has no say, ``[B, K, M]`` bool, at least one True
                in each ``[M]``; None: all have.

        Returns:
            Two tensors ``[B, K]``.
        """
        hats = by_size(sizes)
        level = (hats @ self.level)[:, None, :]
        level = level - functional.softplus(self.sureness) * variance.log()
        if speaks is not None:
            level = level.masked_fill(~speaks, -torch.inf)
        weight = torch.softmax(level, dim=-1)
        center = (weight * mean).sum(dim=-1)
        within = (weight * variance).sum(dim=-1)
        between = (weight * (mean - center.unsqueeze(-1)).square()).sum(dim=-1)
        prior_size = self.log_prior_size.exp()
        own = ((prior_size + misfit) / (prior_size + sizes)).log()
        scale = (hats @ self.log_scale + self.temper * own).exp()
        return center, scale[:, None] * (within + between)

    def of(self, members: Sequence[int]) -> ValueWeights:
        """The weights of some members alone, and the same scale of the variance."""
        part = ValueWeights(len(members))
        part.load_state_dict(self.state_dict() | {"level": self.level[:, list(members)]})
        return part

    def roughness(self) -> Tensor:
        """Squared steps between neighbouring knots, a scalar."""
        return self.level.diff(dim=0).square().sum() + self.log_scale.diff().square().sum()


@dataclass(frozen=True, slots=True)
class ListTasks:
    """Members' scores of some candidates on held-out tasks.

    Attributes:
        sizes: Support sizes, ``[T]``.
        decided: How decided each member is, ``[T, M]``.
        scores: On the common scale, ``[T, C, M]``.
        target: True where a candidate is a target, ``[T, C]`` bool.
    """

    sizes: Tensor
    decided: Tensor
    scores: Tensor
    target: Tensor


def fit_list_weights(tasks: ListTasks, *, smoothing: float, top: int) -> ListWeights:
    """Weights under which the heads of lists hold most targets.

    The loss is the softmax likelihood of the targets, each weighted by how near it is to the
    first ``top`` places (:func:`top_weights`), plus ``smoothing`` times the roughness. Without a
    task all members count alike.
    """
    weights = ListWeights(tasks.decided.shape[1])
    if not len(tasks.sizes):
        return weights
    hats = by_size(tasks.sizes)
    weights.usual = (hats.T @ tasks.decided) / hats.sum(dim=0).clamp_min(1e-6)[:, None]
    weights.usual[hats.sum(dim=0) == 0] = tasks.decided.mean(dim=0)
    target = tasks.target.float()

    def loss() -> Tensor:
        mixed = torch.einsum("tcm,tm->tc", tasks.scores, weights(tasks.sizes, tasks.decided))
        counted = target * top_weights(mixed, top)
        return -(torch.log_softmax(mixed, dim=1) * counted).sum() / counted.sum().clamp_min(1.0)

    _descend(weights, lambda: loss() + smoothing * weights.roughness() / len(tasks.sizes))
    return weights


def fit_value_weights(
    sizes: Tensor,
    misfit: Tensor,
    mean: Tensor,
    variance: Tensor,
    values: Tensor,
    *,
    smoothing: float,
) -> ValueWeights:
    """Weights under which the values of held-out queries are likeliest.

    Args:
        sizes: Support size of each observation's task, ``[N]``.
        misfit: Squared standardised errors on the task's support, ``[N]``.
        mean: Members' predictions, ``[N, M]``.
        variance: Their predictive variances, ``[N, M]``.
        values: The values, ``[N]``.
        smoothing: Weight of the roughness.
    """
    weights = ValueWeights(mean.shape[1])

    def loss() -> Tensor:
        center, spread = weights(sizes, misfit, mean[:, None, :], variance[:, None, :])
        error = (values - center.squeeze(1)).square() / spread.squeeze(1)
        nll: Tensor = 0.5 * (error + spread.squeeze(1).log()).mean()
        return nll

    _descend(weights, lambda: loss() + smoothing * weights.roughness() / max(len(sizes), 1))
    return weights


def decidedness(standard: Tensor) -> Tensor:
    """How far the best items stand out of a user's standardised scores.

    Args:
        standard: Scores of mean 0 and sd 1 over the catalogue, ``[B, I]``.

    Returns:
        ``log mean exp``, ``[B]``: 0.5 for normal scores, more where few items stand out.
    """
    stand_out: Tensor = torch.logsumexp(standard, dim=1) - math.log(standard.shape[1])
    return stand_out


def _descend(module: nn.Module, loss: Callable[[], Tensor]) -> None:
    optimizer = torch.optim.Adam(module.parameters(), lr=_RATE)
    for step in range(_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (1.0 - step / _STEPS)
        optimizer.zero_grad(set_to_none=True)
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
