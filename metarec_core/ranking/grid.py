"""Figures on a grid of about a millionth: what is published does not hang on a last bit.

Matrix kernels may round differently with the alignment of their operands or the number of
threads, by about 1e-15. Off the grid that noise is gone: items that are equal in exact arithmetic
tie, and the same history gives the same figures whoever else was in the batch. The step is a power
of two, so that sums of figures on the grid are exact.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

_STEPS = float(1 << 20)

STEP = 1.0 / _STEPS
"""Distance of two neighbours on the grid."""

Figures = TypeVar("Figures", Tensor, npt.NDArray[np.float64])


def on_grid(figures: Figures) -> Figures:
    """The nearest multiples of ``2**-20``; NaN and infinities stay.

    Args:
        figures: An array or a tensor of any shape; not changed.
    """
    steps: Figures = figures * _STEPS
    return steps.round() / _STEPS
