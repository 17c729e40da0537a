"""How well predictive distributions fit what came."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from metarec_core.evaluation.metrics._masked import masked_mean

_MIN_VARIANCE = 1e-12


def gaussian_nll(mean: Tensor, variance: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Negative log-likelihood of each task under ``N(mean, variance)``, in nats a query entry.

    ``1/Q sum_q [log(2 pi variance_q) + (target_q - mean_q)^2 / variance_q] / 2``, a proper
    score (Gneiting & Raftery 2007, "Strictly Proper Scoring Rules, Prediction, and
    Estimation"). It can be negative: it is that of a density.

    Args:
        mean: Predicted values, ``[B, Q]``; NaN where none was predicted.
        variance: *Predictive* variances, noise included, ``[B, Q]``; below 1e-12 they count as
            1e-12, so that a learner that is wrongly certain gets a huge figure, not infinity.
        target: True values, ``[B, Q]``.
        mask: True where an entry is real, ``[B, Q]`` bool.

    Returns:
        ``[B]`` float64; NaN for a task with no query, or with any entry not predicted.
    """
    spread = variance.double().clamp_min(_MIN_VARIANCE)
    squared = (target.double() - mean.double()) ** 2
    return masked_mean(0.5 * (math.log(2 * math.pi) + spread.log() + squared / spread), mask)


def interval_coverage(
    mean: Tensor, variance: Tensor, target: Tensor, mask: Tensor, level: float
) -> Tensor:
    """Share of each task's query values inside the central predictive interval of ``level``.

    The interval is ``mean -+ z sd`` with ``z`` the normal quantile of ``(1 + level) / 2``; its
    ends belong to it. Calibrated predictions have a mean coverage of ``level``; on a grid of few
    stars the figure moves in steps, and a perfect model need not hit ``level`` exactly.

    Args:
        mean: Predicted values, ``[B, Q]``; NaN where none was predicted.
        variance: *Predictive* variances, noise included, ``[B, Q]``.
        target: True values, ``[B, Q]``.
        mask: True where an entry is real, ``[B, Q]`` bool.
        level: Nominal coverage, in (0, 1).

    Returns:
        ``[B]`` float64 in [0, 1]; NaN for a task with no query, or with any entry not predicted.
    """
    reach = NormalDist().inv_cdf((1.0 + level) / 2.0)
    distance = (target.double() - mean.double()).abs()
    inside = (distance <= reach * variance.double().clamp_min(0.0).sqrt()).double()
    unknown = distance.isnan() | variance.isnan()
    return masked_mean(torch.where(unknown, torch.nan, inside), mask)


def relevance_probability(mean: Tensor, variance: Tensor, threshold: float) -> Tensor:
    """``P(value > threshold)`` under ``N(mean, variance)``, float64, NaN where not predicted.

    On a grid of whole stars "at least 4" is everything above 3.5, which is then the threshold.

    Args:
        mean: Predicted values, any shape.
        variance: *Predictive* variances, noise included, of the same shape.
        threshold: Where relevance begins.
    """
    sd = variance.double().clamp_min(_MIN_VARIANCE).sqrt()
    probability: Tensor = torch.special.ndtr((mean.double() - threshold) / sd)
    return probability


def calibration_error(
    probabilities: npt.NDArray[np.float64], outcomes: npt.NDArray[np.bool_], bins: int = 15
) -> float:
    """Expected calibration error of probabilities in bins of equal mass.

    Pairs are sorted by probability and cut into ``bins`` parts of (nearly) equal size; the error
    is the mean over pairs of ``|mean probability - share of outcomes|`` of their part (Naeini et
    al. 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning"; equal-mass bins:
    Nguyen & O'Connor 2015). Perfect forecasts have an error above 0 too, by chance.

    Args:
        probabilities: ``[N]``.
        outcomes: What came, ``[N]``.
        bins: How many bins.

    Returns:
        A number in [0, 1]; NaN without a pair.
    """
    if len(probabilities) == 0:
        return math.nan
    order = np.argsort(probabilities, kind="stable")
    parts = zip(
        np.array_split(probabilities[order], bins),
        np.array_split(outcomes[order].astype(np.float64), bins),
        strict=True,
    )
    gaps = sum(abs(float(stated.sum() - came.sum())) for stated, came in parts)
    return gaps / len(probabilities)
