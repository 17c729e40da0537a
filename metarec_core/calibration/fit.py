"""Learn what a learner's forecasts are worth from users that were held out of its fit."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch

from metarec_core.calibration.bounded import probit_above
from metarec_core.calibration.choice import Sample, choose_curve
from metarec_core.calibration.curves import IDENTITY
from metarec_core.calibration.pairs import Pairs, basis_of, collect, held_out_tasks
from metarec_core.calibration.relevance import Basis, ByMode, RelevanceCalibration
from metarec_core.calibration.sizes import KNOTS, Doubles, Integers, between_knots
from metarec_core.episodes.types import TaskData, ValueScale
from metarec_core.errors import ModelError
from metarec_core.learners.base import Learner
from metarec_core.learners.modes import MODES, in_mode

logger = logging.getLogger(__name__)

_SHUFFLES = 3
"""Ways in which each user's interactions are cut into support and query, where users are few."""

_MANY_USERS = 1000
"""Users that suffice: of more, so many are asked."""


def calibrate(learner: Learner, validation: TaskData, *, device: torch.device, seed: int) -> ByMode:
    """The calibration of a learner in each mode that it has.

    Users are those by whom the learner may have chosen its epoch or its weights, not those it was
    trained on: a handful of choices, against thousands of pairs.

    Args:
        learner: A learner fitted without the users of ``validation``.
        validation: Those users.
        device: Where the learner computes.
        seed: Seed of the tasks.

    Returns:
        By mode; one in which too little was held out to know anything is missing, unless values
        are forecast: there the uncalibrated probability stands as it is.
    """
    found: dict[str, RelevanceCalibration] = {}
    known: list[tuple[Learner, RelevanceCalibration | None]] = []
    for mode in MODES:
        try:
            view = in_mode(learner, mode)
        except ModelError:
            continue
        # A learner that reads no features is its own collaborative view.
        again = [made for other, made in known if other is view]
        made = again[0] if again else _calibrate(view, validation, device, seed)
        known.append((view, made))
        if made is not None:
            found[mode] = made
    return found


def _calibrate(
    learner: Learner, validation: TaskData, device: torch.device, seed: int
) -> RelevanceCalibration | None:
    scale = validation.scale
    users = np.arange(validation.n_users)
    if len(users) > _MANY_USERS:
        users = np.sort(np.random.default_rng(seed).choice(users, _MANY_USERS, replace=False))
    shuffles = max(1, min(_SHUFFLES, 2 * _MANY_USERS // max(len(users), 1)))
    parts = [
        collect(
            learner,
            held_out_tasks(validation, users, sizes=KNOTS, seed=seed + shuffle),
            feedback=scale.feedback,
            relevant_from=scale.relevant_from,
            device=device,
        )
        for shuffle in range(shuffles)
    ]
    return calibration_of(Pairs.joined(parts), scale)


def calibration_of(pairs: Pairs, scale: ValueScale) -> RelevanceCalibration | None:
    """The calibration that pairs teach.

    Args:
        pairs: Of users that the learner was not trained on.
        scale: What values mean, and which are legal.

    Returns:
        None without a pair; where pairs are too few, or all alike, to say anything of list scores;
        and where all values held out are relevant and relevance begins at an end of the scale: then
        every legal value is relevant, or nothing shows where the grid has its next value.
    """
    if not len(pairs):
        return None
    basis = basis_of(pairs, scale.feedback)
    settings: dict[str, Any] = {
        "basis": basis,
        "users": len(np.unique(pairs.users)),
        "pairs": len(pairs),
    }
    if basis is Basis.VALUE:
        threshold = threshold_of(pairs.values, scale.relevant_from)
        half_step = scale.relevant_from - threshold
        low, high = scale.minimum - half_step, scale.maximum + half_step
        if not low < threshold < high:
            logger.info("no value below %g was held out: nothing to tell apart", threshold)
            return None
        settings |= {"threshold": threshold, "low": low, "high": high}
        z = probit_above(
            pairs.mean,
            pairs.variance,
            **{name: settings[name] for name in ("threshold", "low", "high")},
        )
    else:
        center, spread = _usual(pairs.scores, pairs.sizes)
        settings |= {"center": tuple(center.tolist()), "spread": tuple(spread.tolist())}
        left, share = between_knots(pairs.sizes)
        z = pairs.scores - ((1.0 - share) * center[left] + share * center[left + 1])
        z = z / ((1.0 - share) * spread[left] + share * spread[left + 1])
    sample = Sample(pairs.users, z, pairs.sizes, pairs.relevant)
    if not sample.suffices():
        logger.info("%d pairs of %d users teach no calibration", len(pairs), settings["users"])
        if basis is not Basis.VALUE:
            return None
        return RelevanceCalibration(**settings, curve=IDENTITY)
    curve, ece = choose_curve(sample, may_be_right=basis is Basis.VALUE)
    return RelevanceCalibration(**settings, curve=curve, ece=ece)


def threshold_of(values: Doubles, relevant_from: float) -> float:
    """Half-way between the smallest relevant value and the largest other one that was met.

    On a grid of whole stars "at least 4" is everything above 3.5; where no other value was met
    there is no grid to know.
    """
    others = values[values < relevant_from]
    return (relevant_from + float(others.max())) / 2.0 if len(others) else relevant_from


def _usual(scores: Doubles, sizes: Integers) -> tuple[Doubles, Doubles]:
    """Mean and sd of list scores at each knot, ``[S]``; of all where a knot has too few."""
    left, share = between_knots(sizes)
    center = np.full(len(KNOTS), scores.mean())
    spread = np.full(len(KNOTS), scores.std())
    nearest = left + (share >= 0.5)
    for knot in range(len(KNOTS)):
        own = scores[nearest == knot]
        if len(own) >= 100 and own.std() > 0.0:
            center[knot], spread[knot] = own.mean(), own.std()
    # Scores that are all alike say nothing; they need a scale all the same.
    return center, np.where(spread > 0.0, spread, 1.0)
