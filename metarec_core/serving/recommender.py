"""Recommend to anyone from a few rows, without retraining: the daytime side of a night's model."""

from __future__ import annotations

import logging
import operator
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from metarec_core.config.recommend import RecommendConfig
from metarec_core.episodes.types import IntArray
from metarec_core.errors import ConfigError, ModelError
from metarec_core.learners.modes import PERSONALISED, in_mode
from metarec_core.ranking.lists import rank
from metarec_core.ranking.request import Audience, ListSettings
from metarec_core.ranking.similar import SimilarConfig
from metarec_core.schema import RECOMMENDATIONS_SCHEMA, Columns, Feedback
from metarec_core.serving.bundle import Bundle
from metarec_core.serving.cells import Frame, as_text, cells, column_names
from metarec_core.serving.features import read_features
from metarec_core.serving.history import IGNORED_SCHEMA, read_histories
from metarec_core.serving.neighbours import similar_items, similar_users
from metarec_core.serving.plan import reason_detail

logger = logging.getLogger(__name__)

_TILE_USERS = 512
_TILE_ENTRIES = 1 << 18
"""Most users, and entries (users x k), whose lists are in the works at once."""

_MOST_NEIGHBOURS = 1000

_NIGHTLY = RecommendConfig()
"""What reasons hold at night unless it is set otherwise."""

RECOMMEND, SIMILAR_ITEMS, SIMILAR_USERS = "recommend", "similar_items", "similar_users"
"""What a model can be asked for."""

SERVED_SCHEMA = pl.Schema(
    {name: kind for name, kind in RECOMMENDATIONS_SCHEMA.items() if name != Columns.RUN_DATE}
)
"""Lists made by day: those of the night without the run date."""


@dataclass(frozen=True, slots=True)
class Recommendations:
    """Ranked rows, and what of the request was not used.

    Attributes:
        frame: ``SERVED_SCHEMA``; users in order of first appearance.
        ignored: Rows and values left out, ``IGNORED_SCHEMA``.
    """

    frame: pl.DataFrame
    ignored: pl.DataFrame

    def annotated(self) -> pl.DataFrame:
        """``frame`` with a text column ``ignored``: what was left out for that user, or null."""
        notes = (
            self.ignored.drop_nulls(Columns.USER)
            .with_columns(note=_note())
            .group_by(Columns.USER)
            .agg(pl.col("note").str.join("; ").alias("ignored"))
        )
        return self.frame.join(notes, on=Columns.USER, how="left", maintain_order="left")


class Recommender:
    """Serves a bundle.

    Args:
        bundle: A model, as :func:`metarec_core.serving.bundle.load_bundle` gives it.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._index = bundle.catalogue.select(Columns.ITEM).with_row_index("index")

    def recommend(
        self,
        frame: Frame,
        *,
        k: int = 10,
        exclude: Iterable[object] | None = None,
        candidates: Iterable[object] | None = None,
        reasons: int = 3,
        mode: str = PERSONALISED,
    ) -> Recommendations:
        """The best ``k`` unseen items of every user in ``frame``.

        The same history gives the same list that the night publishes where no rules and no
        re-ranking were set: those are the night's. One bad row is never an error: it is left out,
        reported in ``ignored`` and logged.

        Args:
            frame: One row an interaction (pandas or polars): ``user_id``, ``item_id``,
                ``rating``, and any user features, of which the first value that is there
                counts. A user without interactions has one row with ``item_id`` missing and is
                served from the prior.
            k: Most entries a list; more than there are items ask for all of them.
            exclude: Item ids that no list may hold.
            candidates: Item ids that lists are made of; None for the whole catalogue. An empty
                one makes empty lists.
            reasons: Interactions named in each entry's reasons.
            mode: Signals that count: ``personalised`` (all of the model's), ``collaborative``
                (interactions alone) or ``content`` (features alone).

        Raises:
            ConfigError: If a parameter is out of range or of the wrong type.
            ModelError: If columns are missing or unknown, or the model does not have the mode.
        """
        excluded, unknown_excluded = self._items("exclude", exclude)
        wanted, unknown_wanted = self._items("candidates", candidates)
        settings = ListSettings(
            k=_whole_number("k", k),
            reasons=_whole_number("reasons", reasons),
            tile_users=_TILE_USERS,
            exclude=excluded,
            candidates=wanted,
            relevance=self.bundle.relevance.get(mode),
            detail=reason_detail(
                self.bundle, deletions=_NIGHTLY.deletions, features=_NIGHTLY.features
            ),
            features=None if self.bundle.named is None else self.bundle.named.labels,
        )
        settings.check()
        learner = in_mode(self.bundle.learner, mode)
        self._check_columns(frame)
        bundle = self.bundle
        audience, unused = self._audience(frame)
        settings = _bounded(settings, audience, len(bundle.catalogue))
        lists = rank(learner, bundle.catalogue, audience, settings, device=bundle.device)
        ignored = pl.concat([unused, unknown_excluded, unknown_wanted])
        _log(ignored, len(frame))
        return Recommendations(pl.concat(lists).select(SERVED_SCHEMA.names()), ignored)

    def similar(self, task: str, frame: Frame, *, k: int = 10) -> pl.DataFrame:
        """The nearest items of a frame's items, or the nearest users of its users.

        Rows that cannot be used are left out, and logged.

        Args:
            task: ``similar_items``: columns other than ``item_id`` are left aside;
                ``similar_users``: rows as for :meth:`recommend`, compared with one another.
            frame: The rows (pandas or polars).
            k: Most neighbours of each.

        Returns:
            ``SIMILAR_ITEMS_SCHEMA`` or ``SIMILAR_USERS_SCHEMA`` of
            :mod:`metarec_core.serving.neighbours`; items in the order of the catalogue, users in
            that of first appearance.

        Raises:
            ConfigError: If the task is unknown, or ``k`` is out of range or no whole number.
            ModelError: If columns are missing or unknown, or the model cannot tell items apart.
        """
        number = _whole_number("k", k)
        if task not in (SIMILAR_ITEMS, SIMILAR_USERS):
            raise ConfigError(
                "parameter task",
                found=repr(task),
                wanted=f"one of {RECOMMEND}, {SIMILAR_ITEMS}, {SIMILAR_USERS}",
                next_step="correct it, or leave it out for lists",
            )
        if not 1 <= number <= _MOST_NEIGHBOURS:
            raise ConfigError(
                "parameter k",
                found=str(number),
                wanted=f"1 to {_MOST_NEIGHBOURS}",
                next_step="ask for k=10, say",
            )
        config = SimilarConfig(k=number)
        if task == SIMILAR_USERS:
            self._check_columns(frame)
            audience, ignored = self._audience(frame)
            _log(ignored, len(frame))
            return similar_users(self.bundle, audience, config=config)
        if Columns.ITEM not in column_names(frame):
            raise ModelError(
                f"columns of the request to the model of {self.bundle.dataset}",
                found=f"no column {Columns.ITEM!r}",
                wanted=f"{Columns.ITEM}: the items whose like are sought",
                next_step=f"give a frame with a column {Columns.ITEM}",
            )
        items, unknown = self._items("item_id", as_text(cells(frame, Columns.ITEM)).drop_nulls())
        _log(unknown, len(frame))
        assert items is not None
        return similar_items(self.bundle, items, config)

    def _audience(self, frame: Frame) -> tuple[Audience, pl.DataFrame]:
        """A frame's users, and what of its rows and cells was not used."""
        bundle = self.bundle
        histories = read_histories(frame, bundle.catalogue, bundle.scale)
        features = read_features(
            frame, histories.user_of_row, histories.user_ids, bundle.user_encoder
        )
        audience = Audience(histories.user_ids, histories.matrix, features.encoded)
        return audience, pl.concat([histories.ignored, features.ignored])

    def _items(
        self, name: str, ids: Iterable[object] | None
    ) -> tuple[IntArray | None, pl.DataFrame]:
        """Catalogue indices of a parameter's ids, and those the catalogue does not know."""
        if ids is None:
            return None, IGNORED_SCHEMA.to_frame()
        if isinstance(ids, str) or not isinstance(ids, Iterable):
            raise ConfigError(
                f"parameter {name}",
                found=repr(ids),
                wanted="a list of item ids",
                next_step=f"write {name}=[...], also for a single id",
            )
        asked = pl.DataFrame({Columns.ITEM: as_text(list(ids))}).unique(maintain_order=True)
        placed = asked.join(self._index, on=Columns.ITEM, how="left", maintain_order="left")
        unknown = placed.filter(pl.col("index").is_null()).select(
            pl.lit(None, dtype=pl.Int64()).alias("row"),
            pl.lit(None, dtype=pl.String()).alias(Columns.USER),
            Columns.ITEM,
            pl.col(Columns.ITEM).alias("found"),
            pl.lit(f"unknown item in parameter {name}").alias("reason"),
        )
        indices = placed["index"].drop_nulls().cast(pl.Int64).to_numpy()
        return np.sort(indices), unknown

    def _check_columns(self, frame: Frame) -> None:
        names = set(column_names(frame))
        features = list(self.bundle.user_encoder.specs)
        known = [Columns.USER, Columns.ITEM, Columns.RATING, *features]
        faults = [f"unknown column {name!r}" for name in sorted(names - set(known))]
        if Columns.USER not in names:
            faults.append(f"no column {Columns.USER!r}")
        explicit = self.bundle.scale.feedback is Feedback.EXPLICIT
        if explicit and Columns.ITEM in names and Columns.RATING not in names:
            faults.append(f"no column {Columns.RATING!r}")
        if Columns.RATING in names and Columns.ITEM not in names:
            faults.append(f"no column {Columns.ITEM!r}")
        if faults:
            raise ModelError(
                f"columns of the request to the model of {self.bundle.dataset}",
                found="; ".join(faults),
                wanted=f"columns out of {', '.join(known)}",
                next_step="rename or drop columns; user_id is always needed, item_id and rating "
                "where the user has interactions, features where they are known",
            )


def _whole_number(name: str, value: object) -> int:
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ConfigError(
            f"parameter {name}",
            found=repr(value),
            wanted="a whole number",
            next_step=f"ask for {name}=10, say",
        ) from None


def _bounded(settings: ListSettings, audience: Audience, n_items: int) -> ListSettings:
    """The settings with numbers no larger than there is something for: lists stay the same."""
    n_open = n_items if settings.candidates is None else len(settings.candidates)
    # One more than can be: a list of all that is open still says that it is shorter than asked.
    k = min(settings.k, n_open + 1)
    return replace(
        settings,
        k=k,
        reasons=min(settings.reasons, int(audience.histories.counts().max(initial=0))),
        tile_users=max(1, min(settings.tile_users, _TILE_ENTRIES // k)),
    )


def _note() -> pl.Expr:
    what = pl.col(Columns.ITEM).fill_null(pl.col("found")).fill_null("")
    return pl.format("{} (row {}, {})", "reason", "row", what)


def _log(ignored: pl.DataFrame, n_rows: int) -> None:
    if ignored.is_empty():
        return
    counts = ignored["reason"].value_counts(sort=True).sort("count", "reason", descending=True)
    logger.warning(
        "%d value(s) of a request of %d row(s) ignored: %s",
        len(ignored),
        n_rows,
        "; ".join(f"{reason} ({count})" for reason, count in counts.rows()),
    )
