"""Errors of predicted values."""

from __future__ import annotations

from torch import Tensor

from metarec_core.evaluation.metrics._masked import masked_mean


def absolute_error(mean: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error of each task: ``1/Q sum_q |mean_q - target_q|``.

    Predictions are neither rounded nor clipped. The mean of this figure over tasks weighs every
    task alike, not every rating.

    Args:
        mean: Predicted values, ``[B, Q]``; NaN where none was predicted.
        target: True values, ``[B, Q]``.
        mask: True where an entry is real, ``[B, Q]`` bool.

    Returns:
        ``[B]`` float64; NaN for a task with no query, or with any entry not predicted.
    """
    return masked_mean((mean.double() - target.double()).abs(), mask)


def root_squared_error(mean: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Root mean squared error of each task: ``sqrt(1/Q sum_q (mean_q - target_q)^2)``.

    The mean over tasks is at most the RMSE of all ratings pooled (the root is concave): the two
    must not be compared.

    Args:
        mean: Predicted values, ``[B, Q]``; NaN where none was predicted.
        target: True values, ``[B, Q]``.
        mask: True where an entry is real, ``[B, Q]`` bool.

    Returns:
        ``[B]`` float64; NaN for a task with no query, or with any entry not predicted.
    """
    return masked_mean((mean.double() - target.double()) ** 2, mask).sqrt()


def squared_error(mean: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of each task; the root of its mean over tasks is the pooled RMSE.

    Args:
        mean: Predicted values, ``[B, Q]``; NaN where none was predicted.
        target: True values, ``[B, Q]``.
        mask: True where an entry is real, ``[B, Q]`` bool.

    Returns:
        ``[B]`` float64; NaN for a task with no query, or with any entry not predicted.
    """
    return masked_mean((mean.double() - target.double()) ** 2, mask)
