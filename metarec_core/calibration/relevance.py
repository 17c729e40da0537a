"""The probability that a user would find an item relevant, as published in every row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from metarec_core.calibration.bounded import probit_above
from metarec_core.calibration.curves import ByKnot, Curve, Finite
from metarec_core.calibration.sizes import KNOTS, Doubles, at_knots, between_knots
from metarec_core.ranking.grid import on_grid

NEXT = 10
"""Interactions to come that the probability under implicit feedback speaks of."""

HEAD = 200
"""Length of the lists whose entries teach that probability: it says nothing of items below."""


class Basis(StrEnum):
    """What the probability is of, and what it is read from."""

    VALUE = "value"
    """Explicit feedback, from the forecast of the value: that the user, having tried the item,
    rates it ``relevant_from`` or higher."""

    SCORE = "score"
    """The same event, from the list score of a learner that forecasts no value."""

    NEXT = "next"
    """Implicit feedback, from the list score: that the item is among the next :data:`NEXT` items
    that the user takes up. Nobody says no there, so that what a user would like if it were shown
    cannot be known; this event can be watched, and is less likely."""


class RelevanceCalibration(BaseModel):
    """From forecasts to calibrated probabilities, learned on validation tasks.

    A forecast becomes ``z``: under :attr:`Basis.VALUE` that of
    :func:`~metarec_core.calibration.bounded.probit_above`, whose normal distribution function is
    the uncalibrated probability, otherwise the list score less its centre by its spread at that
    support size. The curve turns ``z`` into a probability; at every support size it never falls.

    Ratings are given to what users chose to try, and so the probability is of what happens then:
    it does not say whether a user will try the item.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    basis: Basis
    threshold: Finite = 0.0
    """Half-way between the smallest relevant value and the largest other one."""
    low: Finite = 0.0
    """Smallest value there can be, and half a step of the scale below it."""
    high: Finite = 1.0
    """Largest value there can be, and half a step above it."""
    center: ByKnot = (0.0,) * len(KNOTS)
    """Of list scores, by support size."""
    spread: ByKnot = (1.0,) * len(KNOTS)
    """Of list scores, by support size; positive."""
    curve: Curve
    users: int = Field(ge=0)
    """Validation users that it was learned from."""
    pairs: int = Field(ge=0)
    """Pairs of a user and an item."""
    ece: Finite | None = None
    """Calibration error by cross-validation over those users; null where they are too few."""

    @model_validator(mode="after")
    def _has_room(self) -> RelevanceCalibration:
        if not self.low < self.threshold < self.high and self.basis is Basis.VALUE:
            raise ValueError(f"threshold {self.threshold}; wanted between {self.low}, {self.high}")
        if min(self.spread) <= 0.0:
            raise ValueError(f"spread {min(self.spread)}; wanted positive ones")
        return self

    def p_relevant(
        self,
        *,
        mean: Doubles,
        variance: Doubles,
        scores: Doubles,
        support_sizes: npt.NDArray[np.integer],
    ) -> Doubles:
        """Calibrated probabilities, on the grid of published figures.

        What one entry gets depends on that entry and its support size alone.

        Args:
            mean: Predicted values, ``[..., K]``; not read but under :attr:`Basis.VALUE`.
            variance: Their *predictive* variances, ``[..., K]``; likewise.
            scores: List scores, ``[..., K]``; not read under :attr:`Basis.VALUE`.
            support_sizes: Interactions known of each user, ``[...]``.

        Returns:
            ``[..., K]`` float64 in [0, 1]; NaN where the forecast is not a finite number.
        """
        left, share = between_knots(np.asarray(support_sizes)[..., None])
        if self.basis is Basis.VALUE:
            z = probit_above(mean, variance, threshold=self.threshold, low=self.low, high=self.high)
        else:
            center = at_knots(np.array(self.center), left, share)
            z = (np.asarray(scores, dtype=np.float64) - center) / at_knots(
                np.array(self.spread), left, share
            )
        known = np.isfinite(z)
        found = self.curve.probability(np.where(known, z, 0.0), left, share)
        stated: Doubles = np.where(known, on_grid(np.clip(found, 0.0, 1.0)), np.nan)
        return stated


ByMode = Mapping[str, RelevanceCalibration]
"""A model's calibration in each mode that it can be asked in."""

_FILE = TypeAdapter(dict[str, RelevanceCalibration])


def save_relevance(by_mode: ByMode, path: Path) -> None:
    """Write calibrations as JSON, whose numbers read back bit by bit."""
    plain = {mode: by_mode[mode].model_dump(mode="json") for mode in sorted(by_mode)}
    path.write_text(json.dumps(plain, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def load_relevance(path: Path) -> dict[str, RelevanceCalibration]:
    """Read what :func:`save_relevance` wrote.

    Raises:
        ValueError: If it is something else (:class:`pydantic.ValidationError`).
    """
    return _FILE.validate_json(path.read_bytes())
