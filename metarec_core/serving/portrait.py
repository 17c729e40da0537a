"""What a model can say of one user's list, and of the user, when it is asked at length."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from metarec_core.episodes.store import load_tasks
from metarec_core.episodes.types import Support
from metarec_core.errors import DatasetError
from metarec_core.features.named import NamedFeatures
from metarec_core.learners.base import LinearPredictor
from metarec_core.ranking.counterfactual import places_without
from metarec_core.ranking.reasons import Asked, ReasonDetail, explain
from metarec_core.ranking.tastes import TASTES_SCHEMA, tastes
from metarec_core.schema import REASON_TYPE, Columns
from metarec_core.serving.audience import Translation, audience_of, catalogue_positions
from metarec_core.serving.bundle import Bundle

_FEATURES = 3
"""Features of its content named for each entry."""

WITHOUT_SCHEMA = pl.Schema(
    {
        Columns.ITEM: pl.String(),
        "place": pl.Int64(),
        "score": pl.Float64(),
        "without_item_id": pl.String(),
        "without_title": pl.String(),
        "without_value": pl.Float64(),
        "place_without": pl.Int64(),
        "score_without": pl.Float64(),
    }
)
"""One entry a row: its place by score alone in the whole catalogue, and the place and score it
would have without the interaction that keeps it highest; nulls where no interaction does."""


@dataclass(frozen=True, slots=True)
class Portrait:
    """A user as the model sees them.

    Attributes:
        reasons: Of each entry, ``REASON_TYPE``, with every interaction asked for; null for an item
            that the model does not know, or from a learner that gives no reasons.
        without: ``WITHOUT_SCHEMA``, entries that the user has not met.
        tastes: ``TASTES_SCHEMA``, strongest and surest first; empty where no feature is named.
    """

    reasons: pl.Series
    without: pl.DataFrame
    tastes: pl.DataFrame


def known_of(
    bundle: Bundle, user_id: str, clean: Path, features: Path, episodes: Path
) -> Translation:
    """One user's history and features, from a night's stages, as the model knows them.

    Raises:
        DatasetError: If the night has no such user.
    """
    tasks = load_tasks(episodes, features)
    rows = np.flatnonzero(tasks.user_ids == user_id).astype(np.int64)
    if not len(rows):
        raise DatasetError(
            f"user {user_id!r}",
            found=f"none of the {len(tasks.user_ids)} users in {episodes}",
            wanted="a user of that night",
            next_step="correct the id",
        )
    own = replace(
        tasks,
        data=tasks.data.select(rows),
        user_ids=tasks.user_ids.gather(rows),
        split=tasks.split[rows],
    )
    users = pl.scan_parquet(clean / "users.parquet").filter(pl.col(Columns.USER) == user_id)
    return audience_of(bundle, own, users.collect())


def portray(
    bundle: Bundle,
    known: Translation,
    item_ids: pl.Series,
    *,
    named: NamedFeatures | None,
    n_named: int,
) -> Portrait:
    """Explain a user's entries at length.

    Args:
        bundle: The model.
        known: One user.
        item_ids: The entries.
        named: What items have in common; None: not known.
        n_named: Interactions named in each entry's reasons.
    """
    audience = known.audience
    history = audience.histories
    support = Support(
        items=torch.from_numpy(history.items)[None],
        values=torch.from_numpy(history.values)[None],
        mask=torch.ones(1, len(history.items), dtype=torch.bool),
        user_features=torch.from_numpy(audience.user_features),
    ).to(bundle.device)
    entries = pl.DataFrame({Columns.ITEM: item_ids})
    index = torch.tensor(catalogue_positions(bundle.catalogue, entries), device=bundle.device)
    competes = torch.zeros(len(bundle.catalogue), dtype=torch.bool, device=bundle.device)
    competes[torch.from_numpy(known.candidates).to(bundle.device)] = True
    competes[support.items[0]] = False
    return Portrait(
        reasons=_reasons(bundle, support, index, named, n_named),
        without=_without(bundle, support, index, competes),
        tastes=(
            TASTES_SCHEMA.to_frame()
            if named is None
            else tastes(bundle.learner, support, audience.user_ids, named)
        ),
    )


@torch.no_grad()
def _reasons(
    bundle: Bundle, support: Support, index: Tensor, named: NamedFeatures | None, n_named: int
) -> pl.Series:
    unknown = pl.repeat(None, len(index), dtype=pl.List(REASON_TYPE), eager=True)
    predictor = bundle.learner.adapt(support)
    places = (index >= 0).nonzero().squeeze(1)
    if not isinstance(predictor, LinearPredictor) or not len(places):
        return unknown
    groups = named.groups() if named is not None else None
    detail = ReasonDetail(
        deletions=support.items.shape[1], features=_FEATURES if named else 0, groups=groups
    )
    arrays = explain([Asked(predictor, support, index[places][None], 1)], n_named, detail=detail)
    column = arrays.column(bundle.catalogue, None if named is None else named.labels)
    row_of = np.full(len(index), -1, dtype=np.int64)
    row_of[places.cpu().numpy()] = np.arange(len(places))
    rows = pl.Series(row_of)
    return column.gather(rows.set(rows < 0, None))


def _without(bundle: Bundle, support: Support, index: Tensor, competes: Tensor) -> pl.DataFrame:
    places = ((index >= 0) & competes[index.clamp_min(0)]).nonzero().squeeze(1)
    if not len(places):
        # Met or unknown, all of them: none has a place that it could lose.
        return WITHOUT_SCHEMA.to_frame()
    items = index[places]
    found = places_without(bundle.learner, support, items, competes)
    n_entries = len(items)
    best = torch.full((n_entries,), -1, dtype=torch.int64, device=items.device)
    if support.items.shape[1]:
        # The farthest fall; among falls to one place the largest loss.
        lost = found.score[:, None] - found.score_without
        fall = found.rank_without.double() + lost / (1.0 + lost.abs().max())
        best = fall.argmax(dim=1)
        kept = found.rank_without.gather(1, best[:, None]).squeeze(1) > found.rank
        best = torch.where(kept, best, -1)
    keeps = best >= 0
    chosen = best.clamp_min(0)[:, None]
    catalogue = bundle.catalogue

    def where(values: Tensor) -> pl.Series:
        return pl.Series(values.cpu().numpy()).set(pl.Series((~keeps).cpu().numpy()), None)

    def of(table: Tensor) -> pl.Series:
        if not table.shape[1]:
            return pl.repeat(None, n_entries, eager=True)
        return where(table.gather(1, chosen).squeeze(1))

    history = support.items.expand(n_entries, -1)
    left_out = of(history).cast(pl.UInt32)
    return pl.DataFrame(
        {
            Columns.ITEM: catalogue[Columns.ITEM].gather(items.cpu().numpy()),
            "place": found.rank.cpu().numpy(),
            "score": found.score.cpu().numpy(),
            "without_item_id": catalogue[Columns.ITEM].gather(left_out),
            "without_title": catalogue[Columns.TITLE].gather(left_out),
            "without_value": of(support.values.double().expand(n_entries, -1)),
            "place_without": of(found.rank_without),
            "score_without": of(found.score_without),
        }
    ).cast(WITHOUT_SCHEMA)
