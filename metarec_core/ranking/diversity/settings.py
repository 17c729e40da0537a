"""How diverse lists are to be: the section of settings, without anything heavy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from metarec_core.section import Section

MethodName = Literal[
    "none",
    "mmr",
    "dpp",
    "xquad",
    "calibrated",
    "popularity",
    "sample",
    "mean_variance",
]


MOST_JOINT = 1000
"""Candidates whose scores' covariance is held: 8 MB a user."""


class DiversityConfig(Section):
    """How each user's candidates are re-ranked so that lists are not all of a kind."""

    method: MethodName = "none"
    """``none``: by score alone. ``mmr`` and ``dpp``: unlike items by their vectors, pair by pair or
    as a set. ``xquad`` and ``calibrated``: all categories the user cares about, or in the
    proportions of what the user liked. ``popularity``: fewer of the items that everybody is shown.
    ``sample``: as a sample of the user's preference would rank them (another seed, another list).
    ``mean_variance``: items whose scores do not err together. The last two need a learner that
    knows how unsure its scores are (``gaussian``, ``blr``, ``amortised``, ``average``)."""

    strength: float = Field(0.3, ge=0.0, le=1.0)
    """0 orders by score exactly; 1 is all the method can do. Scores are standardised within each
    user's candidates, so that a strength means about the same for every learner."""

    preset: Literal["gentle"] | None = None
    """``gentle``: the strength is not the one above but the largest at which lists of the
    validation users lose at most 1 % NDCG@10, one standard error added to the loss."""

    pool: int = Field(200, ge=1, le=10_000)
    """Candidates of each user, the best by score; never fewer than a list has places."""

    category: str | None = Field(None, max_length=200)
    """Item feature whose values are the categories; empty: the first that is ``multi`` or
    ``categorical``."""

    @model_validator(mode="after")
    def _preset_of_a_method(self) -> DiversityConfig:
        if self.preset is not None and self.method == "none":
            raise ValueError(
                f"preset {self.preset!r} with method 'none'; wanted a method whose strength "
                "it chooses, such as 'mmr'"
            )
        return self

    @model_validator(mode="after")
    def _covariance_fits(self) -> DiversityConfig:
        if self.method in ("sample", "mean_variance") and self.pool > MOST_JOINT:
            raise ValueError(
                f"pool {self.pool} with method {self.method!r}, which holds the square of it for "
                f"each user; wanted at most {MOST_JOINT}"
            )
        return self

    @property
    def reorders(self) -> bool:
        """Whether lists can differ from the order of scores."""
        return self.method != "none" and (self.preset is not None or self.strength > 0.0)
