"""What is asked of the ranker: for whom, and what a list is to look like."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from metarec_core.calibration.relevance import RelevanceCalibration
from metarec_core.episodes.types import FloatArray, IntArray, InteractionMatrix
from metarec_core.errors import ConfigError, ModelError
from metarec_core.ranking.diversity.settings import DiversityConfig
from metarec_core.ranking.diversity.space import ItemSpace
from metarec_core.ranking.indexes import Indexes
from metarec_core.ranking.reasons import ReasonDetail
from metarec_core.ranking.rules import CompiledRules


@dataclass(frozen=True, slots=True)
class Audience:
    """Users to make lists for.

    Attributes:
        user_ids: Their ids, ``[U]`` strings.
        histories: What each has interacted with, in catalogue indices, one row a user.
        user_features: Encoded features, ``[U, Fu]`` float32.
    """

    user_ids: pl.Series
    histories: InteractionMatrix
    user_features: FloatArray

    def part(self, start: int, stop: int) -> Audience:
        """Users ``start`` up to, not including, ``stop``, as an audience of their own."""
        return Audience(
            user_ids=self.user_ids[start:stop],
            histories=self.histories.select(np.arange(start, stop)),
            user_features=self.user_features[start:stop],
        )

    def check(self, catalogue: pl.DataFrame) -> None:
        """Refuse parts that do not belong together.

        Raises:
            ModelError: Saying which.
        """
        n_users = len(self.user_ids)
        rows = {
            "histories": self.histories.n_users,
            "user_features": len(self.user_features),
        }
        wrong = [f"{count} rows of {name}" for name, count in rows.items() if count != n_users]
        highest = int(self.histories.items.max(initial=-1))
        if highest >= len(catalogue):
            wrong.append(f"item index {highest} in a catalogue of {len(catalogue)}")
        if wrong:
            raise ModelError(
                "users to rank for",
                found="; ".join(wrong),
                wanted=f"one row for each of {n_users} user ids, items out of the catalogue",
                next_step="take ids, histories, features and catalogue from one features stage",
            )


COUNTERFACTUAL_POOL = 200
"""Fewest candidates among which the place is sought that an entry would have."""


@dataclass(frozen=True, slots=True)
class Diversity:
    """How candidates are re-ranked.

    Attributes:
        settings: Method, strength and size of the pool.
        space: What is known of the items.
        seed: Of every draw.
        liked_from: Value from which an interaction speaks of a user's taste, see
            :func:`metarec_core.ranking.diversity.taste.liked_from`; None: every one does.
    """

    settings: DiversityConfig
    space: ItemSpace
    seed: int
    liked_from: float | None = None


@dataclass(frozen=True, slots=True)
class ListSettings:
    """What a list is to look like.

    Attributes:
        k: Most entries, at least 1.
        reasons: Support interactions named in each entry's reasons; the others are summed.
        explained: Whether entries have reasons at all; without, scores are those of the search.
        tile_users: Users a frame; memory grows with it, lists do not change.
        exclude: Catalogue indices that no list may hold; None for none.
        candidates: Catalogue indices that lists are made of; None for the whole catalogue. With
            rules it is theirs to say: they were compiled with it.
        rules: Rules of these users' lists; None: whatever a user has not interacted with is open.
        diversity: How candidates are re-ranked; None: not at all.
        relevance: Calibration of the probability of relevance; None: not stated.
        detail: What reasons hold beside shares; None: nothing.
        features: Labels of the features that reasons may name; None for none.
        counterfactuals: Whether reasons say where an entry would stand among the
            ``COUNTERFACTUAL_POOL`` best candidates, or more, without its strongest reason.
        indexes: Prepared items, to be shared by calls for one learner; None: prepared anew.
        threads: Threads of the search for the best.
    """

    k: int
    reasons: int = 3
    explained: bool = True
    tile_users: int = 512
    exclude: IntArray | None = None
    candidates: IntArray | None = None
    rules: CompiledRules | None = None
    diversity: Diversity | None = None
    relevance: RelevanceCalibration | None = None
    detail: ReasonDetail | None = None
    features: pl.Series | None = None
    counterfactuals: bool = False
    indexes: Indexes | None = None
    threads: int = 1

    @property
    def re_ranked(self) -> int:
        """Candidates of a user that lists are chosen from, rules apart."""
        if self.diversity is None or not self.diversity.settings.reorders:
            return self.k
        return max(self.k, self.diversity.settings.pool)

    @property
    def pool(self) -> int:
        """Candidates of a user that are asked for, rules apart."""
        return max(self.re_ranked, COUNTERFACTUAL_POOL if self.counterfactuals else 0)

    def part(self, start: int, stop: int) -> ListSettings:
        """The settings of users ``start`` up to, not including, ``stop``."""
        if self.rules is None:
            return self
        return replace(self, rules=self.rules.part(start, stop))

    def check(self) -> None:
        """Refuse numbers out of range.

        Raises:
            ConfigError: Naming the first parameter at fault.
        """
        for name, value, least in (
            ("k", self.k, 1),
            ("reasons", self.reasons, 0),
            ("tile_users", self.tile_users, 1),
        ):
            if value < least:
                raise ConfigError(
                    f"parameter {name}",
                    found=str(value),
                    wanted=f"at least {least}",
                    next_step=f"ask for {name}={least} or more",
                )
        if self.rules is not None and self.exclude is not None:
            raise ConfigError(
                "parameter exclude",
                found=f"{len(self.exclude)} items, beside rules",
                wanted="one of the two: rules were compiled without knowing of them",
                next_step="deny the items in the rules table",
            )
