"""What a protocol yields: data to learn from, and named states with tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from metarec_core.episodes.fixed import FixedTasks
from metarec_core.episodes.split import position
from metarec_core.episodes.types import IntArray, InteractionMatrix, TaskData
from metarec_core.evaluation.evaluate import Adaptable
from metarec_core.evaluation.protocols.corpus import Corpus, Universe
from metarec_core.schema import Columns

VALIDATION_SHARE = 0.1
"""Share of warm users who choose."""


class Reference(Adaptable, Protocol):
    """A method that only protocols know: no setting, nothing chosen."""

    def fit(self, train: TaskData) -> None:
        """Learn from the tasks of ``train``."""
        ...


@dataclass(frozen=True, slots=True)
class State:
    """Tasks of one kind.

    Attributes:
        name: What is cold, such as ``user_cold``.
        tasks: Tasks by support size k; under None those whose supports have any size.
        measures: Names of what is measured.
        threshold: Where relevance begins, for the error of P(relevant); None: not measured.
        by_band: Whether figures are also given by band of support sizes.
    """

    name: str
    tasks: Mapping[int | None, FixedTasks]
    measures: tuple[str, ...]
    threshold: float | None = None
    by_band: bool = False


@dataclass(frozen=True, slots=True)
class Study:
    """One fit of each learner, and all that is asked of it.

    Attributes:
        name: Its name within the protocol, such as ``seed 1``.
        seed: Seed of the learners.
        train: Tasks to learn from.
        validation: Tasks that choose; none of their users is trained on, none is tested.
        refit: Training and validation together, for a second fit with the choice made; None:
            the first fit is judged.
        states: What is asked.
        references: Methods beside the registered learners.
        user_ids: Ids of the test users by state, and of the validation users.
        facts: Sizes worth stating.
    """

    name: str
    seed: int
    train: TaskData
    validation: TaskData
    refit: TaskData | None
    states: tuple[State, ...]
    references: tuple[Reference, ...]
    user_ids: Mapping[str, list[str]]
    facts: Mapping[str, Any] = field(default_factory=dict)


def shuffled(interactions: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Rows sorted by user, in random order within each; ``rank`` counts from 0.

    The order depends on the rows and the generator, not on the order that they come in.
    """
    ordered = interactions.sort("user", "item")
    drawn = ordered.with_columns(pl.Series("draw", rng.random(len(ordered))))
    return ranked(drawn.sort("user", "draw").drop("draw"))


def ranked(interactions: pl.DataFrame) -> pl.DataFrame:
    """The same rows, which stand by user, with ``rank`` and ``size`` of each within its user."""
    return interactions.with_columns(
        (pl.int_range(pl.len()).over("user")).alias("rank"), pl.len().over("user").alias("size")
    )


def fixed_tasks(
    universe: Universe,
    users: IntArray,
    support: pl.DataFrame,
    query: pl.DataFrame,
    *,
    targets: npt.NDArray[np.bool_] | None = None,
    excluded: pl.DataFrame | None = None,
    candidates: IntArray | None = None,
    among_query: bool = False,
    tie_seed: int | None = None,
) -> FixedTasks:
    """Tasks of ``users`` from frames of corpus rows.

    Args:
        universe: Catalogue and features.
        users: Corpus rows of the users asked, ascending.
        support: Their known interactions (``user``, ``item``, ``value``), in order by user.
        query: Those asked.
        targets: Flags of the rows of ``query``; all by default.
        excluded: Further rows whose items do not compete.
        candidates: Corpus rows of the only items that compete.
        among_query: See :class:`FixedTasks`.
        tie_seed: See :class:`FixedTasks`.
    """
    return FixedTasks(
        users=users,
        user_features=universe.user_features[users],
        n_items=universe.n_items,
        support=_rows(universe, users, support),
        query=_rows(universe, users, query),
        targets=np.ones(len(query), dtype=np.bool_) if targets is None else targets,
        excluded=None if excluded is None else _rows(universe, users, excluded),
        candidates=None if candidates is None else universe.position[candidates],
        among_query=among_query,
        tie_seed=tie_seed,
    )


def _rows(universe: Universe, users: IntArray, frame: pl.DataFrame) -> InteractionMatrix:
    owners = frame["user"].to_numpy()
    assert (np.diff(owners) >= 0).all(), "interactions stand by user"
    places = np.searchsorted(users, owners)
    counts = np.bincount(places, minlength=len(users))
    items = universe.position[frame["item"].to_numpy()]
    assert (items >= 0).all(), "interactions lie in the catalogue"
    return InteractionMatrix(
        indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        items=items,
        values=frame[Columns.VALUE].to_numpy().astype(np.float32),
    )


def of_users(users: pl.Series | IntArray) -> pl.Expr:
    """Whether a row's user is among ``users``."""
    return pl.col("user").is_in(pl.Series(users).unique().implode())


def held_out_by_hash(corpus: Corpus, pool: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A tenth of the users of ``pool``, the same whatever the seed, and the rest of it.

    Returns:
        Interactions of those who choose, and of the others.
    """
    places = [position(user) for user in corpus.users[Columns.USER]]
    chooses = np.flatnonzero(np.array(places) >= 1.0 - VALIDATION_SHARE)
    inside = of_users(chooses)
    return pool.filter(inside), pool.filter(~inside)


def ids(universe: Universe, users: IntArray) -> list[str]:
    """Ids of corpus rows."""
    names: list[str] = universe.corpus.users[Columns.USER][users].to_list()
    return names
