"""When a run warns that stated uncertainty no longer holds."""

from __future__ import annotations

from pydantic import Field

from metarec_core.section import Section


class CalibrationConfig(Section):
    """When a run warns that P(relevant) or the intervals of the champion no longer hold."""

    max_error: float = Field(0.05, gt=0.0, le=0.5)
    """Largest calibration error of P(relevant), less what chance explains."""

    max_coverage_gap: float = Field(0.05, gt=0.0, le=0.5)
    """How far the coverage of 90 % intervals may be from 90 %, less two standard errors."""

    tolerance: float = Field(0.02, gt=0.0, le=0.5)
    """How much either may be worse than when the champion was trained."""

    min_pairs: int = Field(1000, ge=100, le=10_000_000)
    """Pairs of a user and an item below which nothing is said."""

    min_users: int = Field(20, ge=10, le=1_000_000)
    """Users below which nothing is said: pairs of one user err together."""
