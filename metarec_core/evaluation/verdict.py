"""What the gate decided, as a record that can be stored and shown."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict

Outcome = Literal["promoted", "kept", "unchanged"]


class Demand(StrEnum):
    """What a comparison asks of the challenger."""

    BETTER = "better"
    """The interval of the difference lies wholly on the right side of zero, and enough users were
    compared."""

    NOT_WORSE = "not worse"
    """The interval does not lie wholly on the wrong side of the tolerance."""


class Comparison(BaseModel):
    """A learner of tonight against one opponent in one metric, on the same users."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str
    support_size: int | None
    """Tasks of this support size; null for all sizes together."""
    demand: Demand
    challenger: str
    """The challenger's name, or that of tonight's edition of a champion that is a baseline."""
    opponent: str
    """A baseline's name, or ``champion``."""
    challenger_value: float | None
    opponent_value: float | None
    difference: float | None
    """Challenger minus opponent; null where the two share no judged user."""
    low: float | None
    """Lower end of the interval of the difference; null with fewer than two users."""
    high: float | None
    n_users: int
    passed: bool


class Verdict(BaseModel):
    """Whether the champion changes, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: Outcome
    """``promoted``: the alias moves to ``winner``. ``kept``: the champion stays. ``unchanged``:
    the winner is the champion, to the byte."""
    promoted: bool
    """Whether the ``champion`` alias moves."""
    winner: str
    """Name of the learner that is champion from now on."""
    reason: str
    """A sentence with the figures that decided."""
    rule: str
    """The rule that was applied."""
    comparisons: tuple[Comparison, ...]
    peers: tuple[Comparison, ...] = ()
    """The challenger against each other learner of tonight; decides nothing."""
    remark: str = ""
    """Which of them it is shown to beat, and which not, in a sentence."""
