"""Does what one dataset taught help on another, and with how few of its users?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import torch

from metarec_core.calibration.fit import calibrate
from metarec_core.config import Config
from metarec_core.episodes.fixed import FixedTasks
from metarec_core.episodes.split import position
from metarec_core.episodes.types import IntArray, TaskData
from metarec_core.errors import DatasetError
from metarec_core.evaluation.evaluate import Adaptable, evaluate
from metarec_core.evaluation.measures import measures
from metarec_core.evaluation.protocols.corpus import Corpus, Universe
from metarec_core.evaluation.protocols.study import fixed_tasks, of_users, shuffled
from metarec_core.learners.base import FitContext, Learner
from metarec_core.learners.popularity import Popularity
from metarec_core.learners.registry import learner_class
from metarec_core.learners.transfer import (
    Knowledge,
    Names,
    Start,
    WarmStartable,
    comparable,
    feature_of,
    match,
)
from metarec_core.schema import Columns, Table
from metarec_core.serving.bundle import Bundle

SCRATCH = "scratch"
SCRATCH_KNOWN = "scratch_known_items"
"""From scratch, told as every started learner is that no item of the catalogue is new."""

FEATURES = "features"
ITEMS = "features_and_items"
POPULARITY = "popularity"
METRIC = "ndcg_at_10"

MIN_TARGETS = 5
"""Fewest positives of a test user that are asked, beside the reserved ones."""
_LEAST = 3
"""Fewest users that may choose an epoch."""
_BATCH = 256

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Transferred:
    """What a study of transfer gave.

    Attributes:
        figures: ``start`` (how the learner began), ``fraction``, ``seed``, ``k``, ``user`` and
            the NDCG@10 of each test user.
        shared: What the datasets share, and how many users were asked and learned from.
        test_users: Ids of the test users.
        bundle: The started learner on most users with the first seed, ready to serve.
    """

    figures: pl.DataFrame
    shared: Mapping[str, Any]
    test_users: list[str]
    bundle: Bundle


def study_transfer(source: Corpus, target: Corpus, config: Config, told: Told) -> Transferred:
    """Fit on the source once; on the target from scratch and from there, for each fraction, seed.

    The source learner sees only the features that the target has too. Test users of the target
    are a part by hash. Of the others a fraction is drawn by seed, nested in the larger ones, and
    a part of it chooses the epoch: nothing else of the target is seen. The catalogue is that of
    all users but those of the test, whatever the fraction. A test user's positives are shuffled;
    the first are reserved for supports, all others asked, and all but the reserved compete.

    Args:
        source: The dataset that teaches.
        target: The one that is started.
        config: All settings; ``transfer``, ``learners``, ``episodes`` and ``training`` are read.
        told: Called with a line for each fit.

    Raises:
        DatasetError: If the target has too few users for it.
        ModelError: If the datasets share no feature value and no title.
    """
    asked = config.transfer
    trial = _Trial(target, config)
    taught = _taught(source, target, config)
    told(f"{asked.learner} fitted on {source.descriptor.name}")
    frames: list[pl.DataFrame] = []
    shared: dict[str, Any] = {"source_users": taught.data.n_users}
    bundle: Bundle | None = None
    largest = max(asked.fractions)
    for seed in asked.seeds:
        for fraction in sorted(asked.fractions):
            part = trial.part(fraction, seed)
            for start, learner in _starts(part, taught, config):
                told(f"seed {seed}, {fraction:.0%} of the users: {start}")
                frames += trial.judged(learner, part, start)
                if fraction == largest and start in (FEATURES, ITEMS) and seed == asked.seeds[0]:
                    bundle = part.bundle(learner, asked.learner)
            shared[f"users_at_{fraction:g}"] = part.train.n_users + part.validation.n_users
        start_of = match(taught, part.names(), match_items=asked.match_items)
        shared |= {"columns": len(start_of.item_columns) + len(start_of.user_columns)}
        shared |= {"items": len(start_of.items), "catalogue": part.universe.n_items}
    assert bundle is not None
    shared["test_users"] = len(trial.test)
    return Transferred(pl.concat(frames), shared, trial.test_ids(), bundle)


@dataclass(frozen=True, slots=True)
class _Part:
    """A fraction of the target's users."""

    fraction: float
    seed: int
    universe: Universe
    train: TaskData
    validation: TaskData

    def names(self) -> Names:
        return _names(self.universe)

    def bundle(self, learner: Learner, name: str) -> Bundle:
        corpus = self.universe.corpus
        items = corpus.items[self.universe.catalogue]
        return Bundle(
            learner=learner,
            learner_name=name,
            catalogue=pl.DataFrame(
                {Columns.ITEM: items[Columns.ITEM], Columns.TITLE: _titles(items)}
            ),
            user_encoder=self.universe.user_encoder,
            scale=corpus.descriptor.scale(),
            dataset=corpus.descriptor.name,
            relevance=calibrate(
                learner, self.validation, device=torch.device("cpu"), seed=self.seed
            ),
        )


class _Trial:
    """The target: who judges, who may be learned from, and what is ranked."""

    def __init__(self, target: Corpus, config: Config) -> None:
        self.config = config
        self.corpus = target
        asked = config.transfer
        places = np.array([position(user) for user in target.users[Columns.USER]])
        judges = of_users(np.flatnonzero(places < asked.test_fraction))
        self.pool = target.interactions.filter(~judges)
        rows = target.interactions.filter(
            judges, pl.col(Columns.VALUE) >= target.descriptor.scale().relevant_from
        )
        counted = self.pool.group_by("item").len().sort("item")
        kept = counted.filter(pl.col("len") >= asked.min_item_interactions)
        self.catalogue: IntArray = kept["item"].to_numpy()
        inside = pl.col("item").is_in(pl.Series(self.catalogue).implode())
        self.pool = self.pool.filter(inside)
        self.reserved = max(asked.support_sizes)
        enough = pl.len().over("user") >= self.reserved + MIN_TARGETS
        self.positives = rows.filter(inside).filter(enough)
        self.test: IntArray = np.unique(self.positives["user"].to_numpy())
        self.users: IntArray = np.unique(self.pool["user"].to_numpy())
        if len(self.test) < 2 or len(self.users) < 2 * _LEAST:
            raise DatasetError(
                f"target {target.descriptor.name}",
                found=f"{len(self.test)} test users with {self.reserved + MIN_TARGETS} positives "
                f"and {len(self.users)} others",
                wanted=f"at least 2 and {2 * _LEAST}",
                next_step="lower transfer.support_sizes or transfer.min_item_interactions, or "
                "choose a larger target",
            )

    def test_ids(self) -> list[str]:
        names: list[str] = self.corpus.users[Columns.USER][self.test].to_list()
        return names

    def part(self, fraction: float, seed: int) -> _Part:
        """A fraction of the users, drawn by seed; larger fractions hold smaller ones."""
        drawn = np.random.default_rng(seed).permutation(self.users)
        count = max(round(fraction * len(drawn)), 2 * _LEAST)
        chosen = drawn[:count]
        share = self.config.transfer.validation_fraction
        choosers = max(round(share * len(chosen)), _LEAST)
        learn = self.pool.filter(of_users(chosen[choosers:]))
        universe = Universe.of(self.corpus, self.catalogue, learn, seed)
        choose = self.pool.filter(of_users(chosen[:choosers]))
        return _Part(
            fraction, seed, universe, universe.task_data(learn), universe.task_data(choose)
        )

    def judged(self, learner: Adaptable, part: _Part, start: str) -> Iterator[pl.DataFrame]:
        """NDCG@10 of every test user at every support size."""
        asked = shuffled(self.positives, np.random.default_rng(part.seed))
        reserved = asked.filter(pl.col("rank") < self.reserved)
        query = asked.filter(pl.col("rank") >= self.reserved)
        for k in self.config.transfer.support_sizes:
            known = reserved.filter(pl.col("rank") < k)
            tasks: FixedTasks = fixed_tasks(
                part.universe, self.test, known, query, excluded=reserved
            )
            frame = evaluate(
                learner,
                tasks,
                device=torch.device("cpu"),
                batch_size=_BATCH,
                name=start,
                measures=measures(METRIC),
            )
            yield frame.select(
                pl.lit(start).alias("start"),
                pl.lit(part.fraction).alias("fraction"),
                pl.lit(part.seed, dtype=pl.Int64).alias("seed"),
                pl.lit(k, dtype=pl.Int64).alias("k"),
                "user",
                METRIC,
            )


def _starts(part: _Part, taught: Knowledge, config: Config) -> Iterator[tuple[str, Learner]]:
    """The learner from every start, and popularity as a measure of both, fitted on a part."""
    asked = config.transfer
    settings = getattr(config.learners, asked.learner)
    context = _context(config, part.seed)
    popularity = Popularity(Popularity.Config())
    popularity.fit(part.train, part.validation, context)
    yield POPULARITY, popularity
    for name, start in ((SCRATCH, None), (SCRATCH_KNOWN, Start.from_scratch())):
        scratch = learner_class(asked.learner)(settings)
        assert isinstance(scratch, WarmStartable)
        scratch.start_from(start)
        scratch.fit(part.train, part.validation, context)
        yield name, scratch
    rate = settings.loop.learning_rate * asked.learning_rate
    slower = settings.changed({"loop": {"learning_rate": rate, "epochs": asked.epochs}})
    for name in (FEATURES, ITEMS)[: 1 + asked.match_items]:
        learner = learner_class(asked.learner)(slower)
        assert isinstance(learner, WarmStartable)
        learner.start_from(
            match(
                taught,
                part.names(),
                match_items=name == ITEMS,
                popularity_users=asked.popularity_users,
            )
        )
        learner.fit(part.train, part.validation, context)
        yield name, learner


def _taught(source: Corpus, target: Corpus, config: Config) -> Knowledge:
    """The learner fitted on the source, by features that the target has too."""
    asked = config.transfer
    rows = source.interactions
    choosers = np.array([position(user) for user in source.users[Columns.USER]])
    chooses = of_users(np.flatnonzero(choosers >= 1.0 - config.episodes.validation_fraction))
    universe = Universe.of(
        source, rows.filter(~chooses)["item"].to_numpy(), rows.filter(~chooses), config.seed
    )
    names = _names(universe)
    tables = target.descriptor
    items = _shared(names.item_columns, set(tables.features(Table.ITEMS)))
    users = _shared(names.user_columns, set(tables.features(Table.USERS)))
    data, choosing = (
        replace(
            one,
            item_features=one.item_features[:, items],
            user_features=one.user_features[:, users],
        )
        for one in (
            universe.task_data(rows.filter(~chooses)),
            universe.task_data(universe.within(rows.filter(chooses))),
        )
    )
    learner = learner_class(asked.learner)(getattr(config.learners, asked.learner))
    learner.fit(data, choosing, _context(config, config.seed))
    named = Names(
        tuple(names.item_columns[place] for place in items),
        tuple(names.user_columns[place] for place in users),
        names.titles,
    )
    return Knowledge(learner, data, named)


def _context(config: Config, seed: int) -> FitContext:
    return FitContext(
        seed=seed,
        device=torch.device("cpu"),
        max_support=config.episodes.max_support,
        max_query=config.episodes.max_query,
    )


def _names(universe: Universe) -> Names:
    items = universe.corpus.items[universe.catalogue]
    return Names(universe.item_names, tuple(universe.user_encoder.names), tuple(_titles(items)))


def _titles(items: pl.DataFrame) -> pl.Series:
    if Columns.TITLE in items.columns:
        return items[Columns.TITLE]
    return pl.Series(Columns.TITLE, [None] * len(items), dtype=pl.String)


def _shared(columns: Sequence[str], features: set[str]) -> list[int]:
    return [
        place
        for place, name in enumerate(columns)
        if feature_of(name) in features and comparable(name)
    ]
