"""A dataset as the protocols need it: cleaned as every night cleans it, rows numbered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from metarec_core.cleaning.clean import clean_tables
from metarec_core.config import CleaningConfig, DatasetConfig, ValidationConfig
from metarec_core.episodes.times import times_of
from metarec_core.episodes.types import FloatArray, IntArray, InteractionMatrix, TaskData
from metarec_core.errors import DatasetError
from metarec_core.features.encoder import FeatureEncoder
from metarec_core.home import Home
from metarec_core.ingest.descriptor import DatasetDescriptor, load_descriptor
from metarec_core.ingest.fetch import fetch
from metarec_core.ingest.locate import locate
from metarec_core.ingest.read import fingerprint, ingest_tables
from metarec_core.schema import Columns, Table

STATE = "state"
"""Published state of an interaction (MeLU's split of MovieLens 1M)."""

_STATE_COLUMN = "melu_state"


@dataclass(frozen=True, slots=True)
class Corpus:
    """A cleaned dataset.

    Attributes:
        descriptor: What its columns mean.
        interactions: ``user`` and ``item`` (row numbers of the next two), ``value``,
            ``timestamp`` and, where the set has it, ``state``; sorted by user and item.
        users: Ids and raw features of users, in the order of their ids (as numbers, if they are).
        items: Those of items.
        fingerprint: Hash of the descriptor and of the files.
    """

    descriptor: DatasetDescriptor
    interactions: pl.DataFrame
    users: pl.DataFrame
    items: pl.DataFrame
    fingerprint: str


def find_dataset(name: str, folder: str, data: Path, home: Home) -> Path:
    """Directory of a dataset: ``data/folder`` if there is one, else the fetched one.

    One that can be fetched is fetched on the way, if it is in neither place: a protocol is one
    command.

    Raises:
        DatasetError: If it is in neither place and cannot be fetched.
    """
    there = data.expanduser().absolute() / folder
    descriptor = load_descriptor(name)
    if there.is_dir() or descriptor.fetch is None:
        return locate(descriptor, DatasetConfig(name=name, path=str(there)), home)
    fetch(descriptor, home)
    return locate(descriptor, DatasetConfig(name=name), home)


def read_corpus(name: str, root: Path, scratch: Path, cleaning: CleaningConfig) -> Corpus:
    """Read and clean a dataset with the stages of the night.

    Args:
        name: A bundled descriptor.
        root: Directory of its files.
        scratch: Directory for the stages' tables; made if absent.
        cleaning: Rules, memory and threads.

    Raises:
        DatasetError: If files are missing or cannot be read.
    """
    descriptor = load_descriptor(name)
    raw, clean = scratch / name / "raw", scratch / name / "clean"
    for place in (raw, clean):
        place.mkdir(parents=True, exist_ok=True)
    ingest_tables(descriptor, root, raw, validation=ValidationConfig(), cleaning=cleaning)
    clean_tables(raw, clean, descriptor=descriptor, config=cleaning)
    users = _in_order(pl.read_parquet(clean / f"{Table.USERS}.parquet"), Columns.USER)
    items = _in_order(pl.read_parquet(clean / f"{Table.ITEMS}.parquet"), Columns.ITEM)
    interactions = (
        pl.read_parquet(clean / f"{Table.INTERACTIONS}.parquet")
        .join(_numbered(users, Columns.USER, "user"), on=Columns.USER)
        .join(_numbered(items, Columns.ITEM, "item"), on=Columns.ITEM)
    )
    source = root / descriptor.interactions.path
    if source.suffix == ".parquet" and _STATE_COLUMN in pl.read_parquet_schema(source):
        states = pl.read_parquet(source, columns=[_STATE_COLUMN]).select(
            pl.int_range(1, pl.len() + 1).alias(Columns.SOURCE_ROW),
            pl.col(_STATE_COLUMN).alias(STATE),
        )
        interactions = interactions.join(states, on=Columns.SOURCE_ROW)
    kept = [name for name in (Columns.VALUE, Columns.TIME, STATE) if name in interactions.columns]
    return Corpus(
        descriptor=descriptor,
        interactions=interactions.select("user", "item", *kept).sort("user", "item"),
        users=users,
        items=items,
        fingerprint=fingerprint(descriptor, root),
    )


def require_states(corpus: Corpus) -> None:
    """Refuse a set without the published states.

    Raises:
        DatasetError: If its interactions have none.
    """
    if STATE not in corpus.interactions.columns:
        raise DatasetError(
            f"dataset {corpus.descriptor.name}, file {corpus.descriptor.interactions.path}",
            found=f"no column {_STATE_COLUMN!r}",
            wanted="MovieLens 1M with MeLU's published states",
            next_step="point --data at the directory that holds ml-1m/ratings.parquet with them",
        )


@dataclass(frozen=True, slots=True)
class Universe:
    """A catalogue and encoded features: what is learned from and ranked.

    Attributes:
        corpus: Where it comes from.
        catalogue: Corpus row of each catalogue item, ``[I]``, ascending.
        position: Catalogue index of each corpus item, -1 for those outside, ``[all items]``.
        user_features: Of every user of the corpus, ``[all users, Fu]``.
        item_features: Of the catalogue, ``[I, Fi]``.
        item_names: Names of the columns of ``item_features``.
        user_encoder: What encoded the users.
    """

    corpus: Corpus
    catalogue: IntArray
    position: IntArray
    user_features: FloatArray
    item_features: FloatArray
    item_names: tuple[str, ...]
    user_encoder: FeatureEncoder

    @classmethod
    def of(cls, corpus: Corpus, catalogue: IntArray, training: pl.DataFrame, seed: int) -> Universe:
        """Encode features by what training users and training items show.

        Args:
            corpus: The dataset.
            catalogue: Corpus rows of the items that are ranked.
            training: Interactions that are trained on (``user``, ``item``); vocabularies and
                statistics of features come from these users and items alone.
            seed: Seed of the reduction of texts.
        """
        catalogue = np.unique(catalogue)
        user_specs = corpus.descriptor.features(Table.USERS)
        item_specs = corpus.descriptor.features(Table.ITEMS)
        met_users = corpus.users[training["user"].unique().sort()]
        met_items = corpus.items[training["item"].unique().sort()]
        items = FeatureEncoder.fit(met_items, item_specs, seed)
        users = FeatureEncoder.fit(met_users, user_specs, seed)
        position = np.full(len(corpus.items), -1, dtype=np.int64)
        position[catalogue] = np.arange(len(catalogue))
        return cls(
            corpus=corpus,
            catalogue=catalogue,
            position=position,
            user_features=users.encode(corpus.users),
            item_features=items.encode(corpus.items[catalogue]),
            item_names=tuple(items.names),
            user_encoder=users,
        )

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return len(self.catalogue)

    def within(self, interactions: pl.DataFrame) -> pl.DataFrame:
        """The interactions with catalogue items, ``item`` still the corpus row."""
        known = self.position[interactions["item"].to_numpy()] >= 0
        return interactions.filter(pl.Series(known))

    def task_data(self, interactions: pl.DataFrame, *, by_time: bool = False) -> TaskData:
        """Users of ``interactions`` (all with catalogue items) as tasks, in ascending order."""
        ordered = interactions.sort("user", "item")
        users, counts = np.unique(ordered["user"].to_numpy(), return_counts=True)
        return TaskData(
            interactions=InteractionMatrix(
                indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
                items=self.position[ordered["item"].to_numpy()],
                values=ordered[Columns.VALUE].to_numpy().astype(np.float32),
                times=times_of(ordered),
            ),
            user_features=self.user_features[users],
            item_features=self.item_features,
            scale=self.corpus.descriptor.scale(),
            by_time=by_time,
        )


def _in_order(frame: pl.DataFrame, key: str) -> pl.DataFrame:
    number = frame[key].cast(pl.Int64, strict=False)
    if number.null_count() == 0:
        return frame.sort(pl.col(key).cast(pl.Int64))
    return frame.sort(key)


def _numbered(frame: pl.DataFrame, key: str, name: str) -> pl.DataFrame:
    return frame.select(key).with_row_index(name).with_columns(pl.col(name).cast(pl.Int64))
