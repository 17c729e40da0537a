"""Learn a curve from held-out pairs: which family, by cross-validation over users."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from metarec_core.calibration.curves import IDENTITY, Affine, Curve, Isotonic
from metarec_core.calibration.sizes import KNOTS, Doubles, Integers, between_knots
from metarec_core.evaluation.metrics import calibration_error

FOLDS = 5
FEWEST_USERS, FEWEST_PAIRS = 20, 400
"""With fewer nothing is learned."""

_SMOOTHING = 10.0
"""Pull of the affine curve's parameters towards those of the neighbouring knots, in pairs."""

_POOLED = 500.0
"""Pairs that the isotonic regression over all support sizes counts for at each knot."""

_FINE, _LEVELS = 256, 48
"""Bins of equal mass in which forecasts are taken to be alike, by either family."""

_FURTHEST = 8.0
"""Standardised forecasts beyond count as this far off: one outlier must not bend the curve."""

_LEAST = 1e-6
"""Probabilities nearer to 0 and 1 than this count as this near in the likelihood."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Held-out pairs.

    Attributes:
        users: Who was asked, ``[N]`` int64.
        z: Standardised forecasts, ``[N]``.
        sizes: Support sizes, ``[N]``.
        relevant: What came, ``[N]`` bool.
    """

    users: Integers
    z: Doubles
    sizes: Integers
    relevant: npt.NDArray[np.bool_]

    def of(self, chosen: npt.NDArray[np.bool_]) -> Sample:
        """Some of the pairs."""
        return Sample(self.users[chosen], self.z[chosen], self.sizes[chosen], self.relevant[chosen])

    def suffices(self) -> bool:
        """Whether there are enough users and pairs, and of either outcome."""
        enough = len(self.z) >= FEWEST_PAIRS and len(np.unique(self.users)) >= FEWEST_USERS
        return enough and min(int(self.relevant.sum()), int((~self.relevant).sum())) >= FOLDS


def choose_curve(sample: Sample, *, may_be_right: bool) -> tuple[Curve, float]:
    """The curve of the family that forecasts left-out users best, learned from all.

    Every user's pairs are left out once. The simplest family wins whose likelihood of the pairs
    left out is within one standard error, over users, of the best family's (Breiman et al. 1984,
    "Classification and Regression Trees"): what is stated is corrected where it is shown to be
    wrong, since with few users a correction errs by as much as it corrects.

    Args:
        sample: Pairs that suffice.
        may_be_right: Whether ``z`` is that of a forecast, which may need no correction.

    Returns:
        The curve, and the calibration error on the pairs left out.
    """
    _, place = np.unique(sample.users, return_inverse=True)
    fold = place % FOLDS
    families = FAMILIES if may_be_right else {k: v for k, v in FAMILIES.items() if k != AS_STATED}
    stated = {name: np.empty(len(sample.z)) for name in families}
    for left_out in range(FOLDS):
        asked = fold == left_out
        for name, fit in families.items():
            stated[name][asked] = _stated(fit(sample.of(~asked)), sample.of(asked))
    losses = {name: _losses(stated[name], sample.relevant, place) for name in families}
    best = min(losses.values(), key=lambda own: float(own.sum()))
    # A user's excess loss is the sum over its pairs: pairs of one user err together.
    chosen = next(
        name
        for name, own in losses.items()
        if (own - best).sum() <= np.sqrt(np.square(own - best).sum())
    )
    return families[chosen](sample), calibration_error(stated[chosen], sample.relevant)


def fit_affine(sample: Sample) -> Affine:
    """Shift and slope at each knot, by regularised maximum likelihood.

    Pairs of one support size with nearly the same forecast are counted together: the likelihood
    hardly changes, and its cost no longer depends on how many there are.
    """
    alike = _alike(sample)
    left, share = between_knots(alike.sizes)
    where, weight = torch.from_numpy(left), torch.from_numpy(share)
    z, came, missed = (torch.from_numpy(one) for one in (alike.z, alike.came, alike.missed))
    free = torch.zeros(2, len(KNOTS), dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        shift, log_slope = free[0], free[1]
        slope = log_slope.exp()
        here = (1.0 - weight) * shift[where] + weight * shift[where + 1]
        steep = (1.0 - weight) * slope[where] + weight * slope[where + 1]
        probit = here + steep * z
        likelihood: Tensor = (
            came * torch.special.log_ndtr(probit) + missed * torch.special.log_ndtr(-probit)
        ).sum()
        rough = free.diff(dim=1).square().sum() + 1e-3 * free.square().sum()
        return (_SMOOTHING * rough - likelihood) / len(sample.z)

    optimizer = torch.optim.LBFGS([free], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad(set_to_none=True)
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    found = free.detach().numpy()
    return Affine(shift=tuple(found[0].tolist()), slope=tuple(np.exp(found[1]).tolist()))


@dataclass(frozen=True, slots=True)
class _Alike:
    """Pairs of one support size with nearly the same forecast: its mean, and what came."""

    sizes: Integers
    z: Doubles
    came: Doubles
    missed: Doubles


def _alike(sample: Sample) -> _Alike:
    z = np.clip(sample.z, -_FURTHEST, _FURTHEST)
    edges = np.unique(np.quantile(z, np.linspace(0.0, 1.0, _FINE + 1)[1:-1]))
    sizes, size = np.unique(sample.sizes, return_inverse=True)
    cell = size * (len(edges) + 1) + np.searchsorted(edges, z, side="right")
    used, cell = np.unique(cell, return_inverse=True)
    counts = np.bincount(cell).astype(np.float64)
    came: Doubles = np.bincount(cell, sample.relevant).astype(np.float64)
    return _Alike(
        sizes[used // (len(edges) + 1)], np.bincount(cell, z) / counts, came, counts - came
    )


def fit_isotonic(sample: Sample) -> Curve:
    """An isotonic regression at each knot, drawn towards that over all support sizes.

    Pairs are first gathered in bins of equal mass, so that no height hangs on a single pair; one
    pair of the overall rate is added to each, so that no probability is 0 or 1. Where all
    forecasts are alike there is no curve but the level one.
    """
    z = np.clip(sample.z, -_FURTHEST, _FURTHEST)
    edges = np.unique(np.quantile(z, np.linspace(0.0, 1.0, _LEVELS + 1)[1:-1]))
    bins = np.searchsorted(edges, z, side="right")
    used, bins = np.unique(bins, return_inverse=True)
    levels = np.bincount(bins, z) / np.bincount(bins)
    if len(used) < 2:
        levels = levels[0] + np.array([0.0, 1.0])
    left, share = between_knots(sample.sizes)
    counts, hits = np.zeros((len(KNOTS), len(levels))), np.zeros((len(KNOTS), len(levels)))
    for knot, part in ((left, 1.0 - share), (left + 1, share)):
        np.add.at(counts, (knot, bins), part)
        np.add.at(hits, (knot, bins), part * sample.relevant)
    base = float(sample.relevant.mean())
    pooled = rising((hits.sum(axis=0) + base) / (counts.sum(axis=0) + 1.0), counts.sum(axis=0))
    heights = []
    for count, hit in zip(counts, hits, strict=True):
        own = rising((hit + base) / (count + 1.0), count)
        trust = count.sum() / (count.sum() + _POOLED)
        # Sums of rising rows rise, but for their last bits.
        heights.append(np.maximum.accumulate(trust * own + (1.0 - trust) * pooled))
    return Isotonic(
        levels=tuple(levels.tolist()), heights=tuple(tuple(row.tolist()) for row in heights)
    )


def rising(values: Doubles, weights: Doubles) -> Doubles:
    """The nearest sequence that never falls, by weighted squares.

    Pools adjacent violators (Ayer et al. 1955, "An Empirical Distribution Function for Sampling
    with Incomplete Information").

    Args:
        values: ``[G]``.
        weights: Not negative, ``[G]``.
    """
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), np.maximum(weights, 1e-9).tolist(), strict=True):
        mean, mass, length = value, weight, 1
        while blocks and blocks[-1][0] > mean:
            before, other, more = blocks.pop()
            mean = (before * other + mean * mass) / (other + mass)
            mass, length = mass + other, length + more
        blocks.append((mean, mass, length))
    return np.repeat([block[0] for block in blocks], [block[2] for block in blocks])


AS_STATED = "as stated"
FAMILIES: Mapping[str, Callable[[Sample], Curve]] = {
    AS_STATED: lambda _: IDENTITY,
    "affine": fit_affine,
    "isotonic": fit_isotonic,
}
"""What curves are chosen from, the simplest first."""


def _stated(curve: Curve, sample: Sample) -> Doubles:
    return curve.probability(sample.z, *between_knots(sample.sizes))


def _losses(stated: Doubles, relevant: npt.NDArray[np.bool_], user: Integers) -> Doubles:
    """Negative log-likelihood of what came, summed over the pairs of each user, ``[U]``."""
    inner = np.clip(stated, _LEAST, 1.0 - _LEAST)
    losses = -np.log(np.where(relevant, inner, 1.0 - inner))
    return np.bincount(user, losses).astype(np.float64)
