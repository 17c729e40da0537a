"""The part of the tree that says what is published."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from metarec_core.ranking.diversity.settings import DiversityConfig
from metarec_core.ranking.memory import MEMORY_PATTERN
from metarec_core.ranking.sinks.settings import SinksConfig
from metarec_core.section import Section


class ExplanationConfig(Section):
    """How reasons are judged each night."""

    users: int = Field(50, ge=0, le=100_000)
    """Users of the sample, of those with a history; 0: reasons are not judged."""

    entries: int = Field(3, ge=1, le=100)
    """Entries of each list whose best reason is taken away."""

    steps: tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...] = Field(
        (0.05, 0.1, 0.2, 0.4, 0.7), min_length=1, max_length=50
    )
    """Shares of a history at which curves are drawn."""


class RecommendConfig(Section):
    """What is published."""

    k: int = Field(10, ge=1, le=1000)
    """Length of each list."""

    reasons: int = Field(3, ge=0, le=50)
    """Support interactions named in each entry's reasons; the others are summed in ``rest``."""

    memory_limit: str = Field("1GB", pattern=MEMORY_PATTERN)
    """Memory for making lists, beside the model and the users' histories: it decides how many users
    are in the works at once, never fewer than 32 a thread. Lists do not change with it."""

    deletions: int = Field(8, ge=0, le=200)
    """Interactions of each user that the part of a score which has no exact reasons is asked again
    without; 0 for none. Time grows with it."""

    features: int = Field(2, ge=0, le=20)
    """Features of an item's content named in its reasons, where the learner reads content."""

    counterfactuals: bool = False
    """Say where an entry would stand without its strongest reason, among the 200 best candidates or
    those of the re-ranking."""

    rules: str | None = Field(None, max_length=4096)
    """Path of a rules document (YAML): what may be shown to whom, caps, quotas and pins."""

    diversity: DiversityConfig = DiversityConfig()
    """Re-ranking of each user's candidates."""

    frontier: bool = True
    """Measure on validation users what every re-ranking costs and brings, for the report."""

    explanations: ExplanationConfig = ExplanationConfig()
    """How the reasons of each night are judged."""

    shard_users: int = Field(20_000, ge=1, le=10_000_000)
    """Users a file of the published lists. A night that was killed goes on after the last file."""

    sinks: SinksConfig = SinksConfig()
    """Databases that lists are copied to."""
