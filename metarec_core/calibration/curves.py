"""Curves from a standardised forecast to a probability, one for each support size.

A curve never falls: of two items of a user the one with the larger forecast is never the less
likely to be relevant.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from metarec_core.calibration.sizes import KNOTS, Doubles, Integers, at_knots

Finite = Annotated[float, Field(allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
ByKnot = Annotated[tuple[Finite, ...], Field(min_length=len(KNOTS), max_length=len(KNOTS))]


class _Curve(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Affine(_Curve):
    """``Phi(shift(k) + slope(k) z)``: Platt's scaling with the normal distribution as its link.

    Shift 0 and slope 1 leave a normal forecast as it is; the slope is an inverse temperature
    (Platt 1999, "Probabilistic Outputs for Support Vector Machines"; Guo et al. 2017, "On
    Calibration of Modern Neural Networks").
    """

    kind: Literal["affine"] = "affine"
    shift: ByKnot
    slope: ByKnot
    """Positive."""

    @model_validator(mode="after")
    def _rises(self) -> Affine:
        if min(self.slope) <= 0.0:
            raise ValueError(f"slope {min(self.slope)}; wanted positive ones")
        return self

    def probability(self, z: Doubles, left: Integers, share: Doubles) -> Doubles:
        """Probabilities at ``z``; all three arrays have one shape, or shapes that broadcast."""
        shift = at_knots(np.array(self.shift), left, share)
        slope = at_knots(np.array(self.slope), left, share)
        return normal_cdf(shift + slope * z)


class Isotonic(_Curve):
    """A table that rises with ``z``, linear between its entries and level beyond its ends.

    Heights are isotonic regressions (Zadrozny & Elkan 2002, "Transforming Classifier Scores into
    Accurate Multiclass Probability Estimates").
    """

    kind: Literal["isotonic"] = "isotonic"
    levels: Annotated[tuple[Finite, ...], Field(min_length=2)]
    """Values of ``z``, ascending, ``[G]``."""
    heights: Annotated[
        tuple[tuple[Probability, ...], ...], Field(min_length=len(KNOTS), max_length=len(KNOTS))
    ]
    """Probability at each knot and level, ``[S, G]``, never falling along a row."""

    @model_validator(mode="after")
    def _rises(self) -> Isotonic:
        if any(right <= left for left, right in pairwise(self.levels)):
            raise ValueError("levels that do not ascend")
        for row in self.heights:
            if len(row) != len(self.levels):
                raise ValueError(f"{len(row)} heights; wanted one for each of the levels")
            if any(right < left for left, right in pairwise(row)):
                raise ValueError("heights that fall")
        return self

    def probability(self, z: Doubles, left: Integers, share: Doubles) -> Doubles:
        """Probabilities at ``z``; all three arrays have one shape, or shapes that broadcast."""
        levels, heights = np.array(self.levels), np.array(self.heights)
        z, left, share = np.broadcast_arrays(z, left, share)
        z = np.clip(z, levels[0], levels[-1])
        place = np.clip(np.searchsorted(levels, z, side="right") - 1, 0, len(levels) - 2)
        step = (z - levels[place]) / (levels[place + 1] - levels[place])

        def height(knot: Integers) -> Doubles:
            low, high = heights[knot, place], heights[knot, place + 1]
            # The last bit of the sum must not rise above the next entry.
            risen: Doubles = np.minimum(low + step * (high - low), high)
            return risen

        found: Doubles = (1.0 - share) * height(left) + share * height(left + 1)
        return found


Curve = Annotated[Affine | Isotonic, Field(discriminator="kind")]

IDENTITY = Affine(shift=(0.0,) * len(KNOTS), slope=(1.0,) * len(KNOTS))
"""Takes a normal forecast at its word."""


def normal_cdf(x: Doubles) -> Doubles:
    """The standard normal distribution function, of any shape; NaN stays."""
    x = np.ascontiguousarray(x, dtype=np.float64)
    found: Doubles = torch.special.ndtr(torch.from_numpy(x)).numpy()
    return found
