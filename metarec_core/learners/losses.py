"""Losses that learners share, as sums with their number of terms: parts add up over batches."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from metarec_core.episodes.types import Episode

_LOG_2_PI = 1.8378770664093453


def gaussian_nll(error: Tensor, variance: Tensor) -> Tensor:
    """``-log N(error | 0, variance)``, elementwise.

    Args:
        error: Any shape.
        variance: The same, positive.
    """
    return 0.5 * (variance.log() + error.square() / variance + _LOG_2_PI)


def list_nll(logits: Tensor, episode: Episode, relevant_from: float) -> tuple[Tensor, Tensor]:
    """Softmax likelihood of each relevant target among all items outside the support.

    Args:
        logits: Scores of the whole catalogue, ``[B, I]``.
        episode: The tasks.
        relevant_from: Targets with values from here on are what lists should hold.

    Returns:
        Sum over relevant targets, and their number, at least 1; both scalars.
    """
    support = episode.support
    # The support is known: it is no candidate. Padding points at item 0, which must stay.
    known = torch.zeros_like(logits, dtype=torch.int32)
    known.scatter_add_(1, support.items, support.mask.int())
    log_p = functional.log_softmax(logits.masked_fill(known > 0, -torch.inf), dim=-1)
    relevant = episode.mask & (episode.values >= relevant_from)
    picked = log_p.gather(1, episode.items).masked_fill(~relevant, 0.0)
    return -picked.sum(), relevant.sum().clamp_min(1)


def rating_parts(
    standard: Tensor, variance: Tensor, episode: Episode, mu: Tensor, unit: Tensor
) -> dict[str, tuple[Tensor, Tensor]]:
    """Likelihood and absolute error of forecasts of a batch's targets.

    Args:
        standard: Forecasts of ``(r - mu) / unit``, ``[B, Q]``.
        variance: Their predictive variance, ``[B, Q]``.
        episode: The tasks.
        mu: Mean value, scalar.
        unit: What values are learned in, scalar.

    Returns:
        ``nll`` and ``mae`` in values, each as a sum and its number of targets.
    """
    error, mask = episode.values - mu - unit * standard, episode.mask
    nll = gaussian_nll(error, unit.square() * variance)
    return {
        "nll": ((nll * mask).sum(), mask.sum()),
        "mae": ((error.abs() * mask).sum(), mask.sum()),
    }
