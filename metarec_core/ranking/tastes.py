"""A preference projected onto named features: what a user likes, and how sure that is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import torch
from torch import Tensor

from metarec_core.episodes.types import Support
from metarec_core.features.named import NamedFeatures
from metarec_core.learners.base import Learner, Predictor, UncertainContrasts
from metarec_core.ranking.grid import on_grid
from metarec_core.schema import Columns

NORMAL_95 = 1.6448536269514722
"""Quantile of a normal distribution that leaves 5 % above: a 90 % interval reaches so many sds."""

TASTES_SCHEMA = pl.Schema(
    {
        Columns.USER: pl.String(),
        "feature": pl.String(),
        "label": pl.String(),
        "n_items": pl.Int64(),
        "mean": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "usual": pl.Float64(),
    }
)
"""One named feature of one user a row. ``mean`` is the mean list score of the items that have it
less that of the whole catalogue; ``low`` and ``high`` bound its 90 % interval under the user's
Gaussian preference, null from a learner that knows none; ``usual`` is the mean for a user with the
same features of whom no interaction is known. All in standard deviations of the user's own scores
over the catalogue."""

_FLAT = 1e-9


@torch.no_grad()
def tastes(
    learner: Learner, support: Support, user_ids: pl.Series, named: NamedFeatures
) -> pl.DataFrame:
    """What each user of a batch likes, strongest and surest first.

    The projection is a linear map of the preference, so for a Gaussian its mean and variance are
    exact: with ``F`` the rows that take the mean over a group less the mean over all, and scores
    ``V w + a``, they are ``F V E[w] + F a`` and ``diag(F V Cov[w] V' F')``. Rows are ordered by
    how far the interval stays away from what is usual; without intervals by how far the mean is.

    Args:
        learner: A fitted learner.
        support: The users' histories, ``[B, S]``.
        user_ids: Their ids, ``[B]``.
        named: Groups of the catalogue.

    Returns:
        ``TASTES_SCHEMA``, by user.
    """
    means = named.means().to(support.items.device)
    predictor = learner.adapt(support)
    nobody = learner.adapt(replace(support, mask=torch.zeros_like(support.mask)))
    mean, scale = _contrasts(predictor, means)
    usual, _ = _contrasts(nobody, means, scale)
    sd = torch.full_like(mean, torch.nan)
    if isinstance(predictor, UncertainContrasts):
        sd = predictor.contrast_variance(means).clamp_min(0.0).sqrt() / scale
    mean, usual, reach = (on_grid(part).cpu() for part in (mean, usual, NORMAL_95 * sd))
    groups = named.spoken_of()
    n_users, n_groups = mean.shape
    frame = pl.DataFrame(
        {
            Columns.USER: user_ids.gather(np.repeat(np.arange(n_users), n_groups)),
            **{name: pl.concat([groups[name]] * n_users) for name in groups.columns},
            "mean": mean.flatten().numpy(),
            "low": (mean - reach).flatten().numpy(),
            "high": (mean + reach).flatten().numpy(),
            "usual": usual.flatten().numpy(),
        }
    ).with_columns(pl.col("low", "high").fill_nan(None))
    distance = (pl.col("mean") - pl.col("usual")).abs()
    sure = distance - (pl.col("high") - pl.col("mean")).fill_null(0.0)
    places = {user: place for place, user in enumerate(user_ids)}
    order = pl.col(Columns.USER).replace_strict(places, return_dtype=pl.Int64)
    return frame.sort(order, sure, "feature", "label", descending=[False, True, False, False]).cast(
        TASTES_SCHEMA
    )


def _contrasts(
    predictor: Predictor, means: Tensor, scale: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Groups' mean scores less the catalogue's ``[B, G]``, and the sd of scores ``[B, 1]``."""
    scores = predictor.scores().double()
    center = scores.mean(dim=1, keepdim=True)
    if scale is None:
        sd = (scores - center).square().mean(dim=1, keepdim=True).sqrt()
        scale = torch.where(sd > _FLAT, sd, 1.0)
    return ((means @ scores.mT).mT - center) / scale, scale
