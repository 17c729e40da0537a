"""What ``metarec show`` and ``metarec similar`` print, gathered from lists, lake and registry."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl

from metarec_core.episodes.store import load_tasks
from metarec_core.errors import MetarecError, ModelError
from metarec_core.features.named import NamedFeatures
from metarec_core.home import Home
from metarec_core.ranking.similar import SimilarConfig
from metarec_core.reporting.find_item import find_item
from metarec_core.reporting.lists import read_list
from metarec_core.reporting.shown import Shown
from metarec_core.reporting.traces import Traces, traces_of
from metarec_core.schema import Columns
from metarec_core.serving.audience import audience_of
from metarec_core.serving.bundle import Bundle
from metarec_core.serving.neighbours import similar_items, similar_users
from metarec_core.serving.portrait import Portrait, known_of, portray
from tasks.models import bundle_of_lists, champion_bundle

_NAMED = 3
"""Interactions named in each entry's reasons."""

_NO_HISTORY = (
    "The history behind this list is no longer in the lake, so nothing is said of the list without "
    "an interaction, nor of tastes: 'metarec run' builds it again."
)


def show_user(home: Home, user_id: str, run_date: date | None = None) -> Shown:
    """A user's published list, with all that its model can still be asked.

    Where the model or its inputs are gone the list alone is shown, and what is missing is said.

    Raises:
        DatasetError: If nothing was published for that date, or not for that user.
        StorageError: If the lists' manifest cannot be read.
    """
    published = read_list(home, user_id, run_date)
    traces = traces_of(home, published.directory)
    portrait: Portrait | None = None
    missing: list[str] = []
    try:
        bundle = bundle_of_lists(home, traces)
    except MetarecError as error:
        missing.append(f"The model that made this list cannot be asked: {error}")
    else:
        portrait, missing = _portrait(bundle, traces, user_id, published.rows)
    return Shown(published.rows, published.scale, _source(traces), portrait, missing)


def _portrait(
    bundle: Bundle, traces: Traces, user_id: str, rows: pl.DataFrame
) -> tuple[Portrait | None, list[str]]:
    if traces.data is None:
        return None, [_NO_HISTORY]
    missing = []
    named = bundle.named
    if named is None and traces.features is not None and _same_items(bundle, traces):
        named = NamedFeatures.from_stage(traces.features)
    if named is None:
        missing.append("This model was trained before features had names: train it again.")
    known = known_of(bundle, user_id, *traces.data)
    portrait = portray(bundle, known, rows[Columns.ITEM], named=named, n_named=_NAMED)
    if known.ignored_interactions:
        missing.append(
            f"{known.ignored_interactions} interactions with items that the model has not met "
            "are left aside."
        )
    return portrait, missing


def _same_items(bundle: Bundle, traces: Traces) -> bool:
    assert traces.features is not None
    items = pl.read_parquet(traces.features / "items.parquet", columns=[Columns.ITEM])
    return items[Columns.ITEM].equals(bundle.catalogue[Columns.ITEM])


def _source(traces: Traces) -> str:
    model = traces.manifest.get("model") or {}
    if not model:
        return ""
    return f"model version {model.get('version')} (learner {model.get('learner')})"


def similar_to_item(home: Home, item: str, config: SimilarConfig) -> tuple[str, pl.DataFrame]:
    """The item that was meant, by title, and its nearest, as the champion knows them.

    Args:
        home: Where the champion is known.
        item: An id, a title, or a part of one.
        config: How many, and how they are sought.

    Raises:
        DatasetError: If no item, or more than one, is meant.
        ModelError: If there is no champion, or it cannot tell items apart.
    """
    bundle, _ = champion_bundle(home)
    index = find_item(bundle.catalogue, item)
    found = similar_items(bundle, np.array([index], dtype=np.int64), config)
    row = bundle.catalogue.row(index, named=True)
    return row[Columns.TITLE] or row[Columns.ITEM], found


def similar_to_user(home: Home, user_id: str, config: SimilarConfig) -> pl.DataFrame:
    """The nearest other users of the newest lists' night, as the champion knows them.

    Raises:
        DatasetError: If nothing was published, or not for that user.
        ModelError: If there is no champion, or the night's history is gone.
    """
    bundle, _ = champion_bundle(home)
    published = read_list(home, user_id)
    traces = traces_of(home, published.directory)
    if traces.data is None:
        raise ModelError(
            f"users like {user_id!r}",
            found=f"no history behind {published.directory} in the lake any more",
            wanted="the clean, features and episodes outputs that the lists were made from",
            next_step="run 'metarec run', or raise retention.outputs",
        )
    clean, features, episodes = traces.data
    users = pl.read_parquet(clean / "users.parquet")
    everyone = audience_of(bundle, load_tasks(episodes, features), users).audience
    return similar_users(bundle, everyone, [user_id], config)
