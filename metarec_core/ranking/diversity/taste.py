"""Which interactions of a user speak of its taste."""

from __future__ import annotations

import numpy as np

from metarec_core.episodes.types import FloatArray, ValueScale
from metarec_core.ranking.diversity.pool import BoolArray
from metarec_core.schema import Feedback


def liked_from(scale: ValueScale) -> float | None:
    """Value from which an interaction is liked; None where nobody says no (implicit feedback)."""
    return scale.relevant_from if scale.feedback is Feedback.EXPLICIT else None


def liked(values: FloatArray, mask: BoolArray, least: float | None) -> BoolArray:
    """What of each history its user liked: who rates horrors low does not ask for more of them.

    Of a user who liked nothing all counts: what was chosen says more of a taste than nothing does.

    Args:
        values: Ratings or weights, ``[B, S]`` float32; anything at padding.
        mask: True where an entry is real, ``[B, S]``.
        least: See :func:`liked_from`; None: all of a history is liked.

    Returns:
        ``[B, S]`` bool, nowhere true but where ``mask`` is.
    """
    if least is None:
        return mask
    good: BoolArray = mask & (values >= least)
    return np.where(good.any(axis=1, keepdims=True), good, mask)
