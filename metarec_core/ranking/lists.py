"""Ranked lists of many users, tile by tile: what the night publishes and the day answers with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from metarec_core.episodes.types import IntArray, Support
from metarec_core.errors import ModelError
from metarec_core.learners.base import Learner, LinearPredictor, Predictor
from metarec_core.ranking.blocks import Block, blocks
from metarec_core.ranking.grid import on_grid
from metarec_core.ranking.reasons import DoubleArray, ReasonArrays, explain
from metarec_core.ranking.request import Audience, ListSettings
from metarec_core.ranking.topk import top_k
from metarec_core.schema import RECOMMENDATIONS_SCHEMA, SEGMENT_BANDS, Columns

_CPU = torch.device("cpu")

_SCORED_ALONE = 1024
"""Most columns scored item by item (vectors per user and item); more come from one product."""


def rank(
    learner: Learner,
    catalogue: pl.DataFrame,
    audience: Audience,
    settings: ListSettings,
    *,
    run_date: date | None = None,
    device: torch.device = _CPU,
) -> Iterator[pl.DataFrame]:
    """The best ``k`` unseen items of every user, in the order of ``audience``.

    A list is shorter than ``k`` where fewer items are left. Figures lie on a grid of about a
    millionth (:mod:`metarec_core.ranking.grid`); scores that are equal there are ordered by
    catalogue index, which is the order of ``item_id``. For a learner whose predictors are linear
    the score is the sum of its shares, which ``reasons`` holds; other learners give no reasons.

    Args:
        learner: A fitted learner.
        catalogue: ``item_id`` and ``title`` in catalogue order.
        audience: The users.
        settings: What lists are to look like.
        run_date: Written into every row; null when None.
        device: Where scores are computed.

    Returns:
        One frame of ``RECOMMENDATIONS_SCHEMA`` for each tile of users; at least one.

    Raises:
        ConfigError: If a setting is out of range.
        ModelError: If the parts do not belong together, or the learner gives scores that are not
            numbers.
    """
    settings.check()
    audience.check(catalogue)
    return _tiles(_Ranker(learner, catalogue, audience, settings, device), run_date)


def _tiles(ranker: _Ranker, run_date: date | None) -> Iterator[pl.DataFrame]:
    n_users = len(ranker.audience.user_ids)
    step = ranker.settings.tile_users
    for start in range(0, max(n_users, 1), step):
        yield ranker.tile(np.arange(start, min(start + step, n_users)), run_date)


class _Ranker:
    """What stays the same from tile to tile."""

    def __init__(
        self,
        learner: Learner,
        catalogue: pl.DataFrame,
        audience: Audience,
        settings: ListSettings,
        device: torch.device,
    ) -> None:
        self.learner, self.catalogue, self.audience = learner, catalogue, audience
        self.settings, self.device = settings, device
        n_items = len(catalogue)
        allowed = np.ones(n_items, dtype=np.bool_)
        if settings.candidates is not None:
            allowed[:] = False
            allowed[settings.candidates] = True
        if settings.exclude is not None:
            allowed[settings.exclude] = False
        self.columns = (
            None if allowed.all() else torch.from_numpy(np.flatnonzero(allowed)).to(device)
        )
        self.n_columns = int(allowed.sum())
        self.column_of = torch.full((n_items,), -1, dtype=torch.int64, device=device)
        self.column_of[torch.from_numpy(allowed).to(device)] = torch.arange(
            self.n_columns, device=device
        )
        self.k = min(settings.k, self.n_columns)

    @torch.no_grad()
    def tile(self, users: IntArray, run_date: date | None) -> pl.DataFrame:
        """Lists of consecutive ``users``."""
        shape = (len(users), self.k)
        items = np.zeros(shape, dtype=np.int64)
        scores = np.full(shape, -np.inf)
        means, sds = np.full(shape, np.nan), np.full(shape, np.nan)
        reasons: ReasonArrays | None = None
        histories, features = self.audience.histories, self.audience.user_features
        if self.k:
            for block in blocks(histories, features, users, n_columns=self.n_columns):
                rows = block.users - users[0]
                entries = self._entries(block)
                items[rows], scores[rows] = entries.items, entries.scores
                means[rows], sds[rows] = entries.means, entries.sds
                if entries.reasons is not None:
                    reasons = reasons or ReasonArrays.empty(*shape, self.settings.reasons)
                    reasons.put(rows, entries.reasons)
        order = np.lexsort((items, -scores), axis=1)
        rows, places = np.nonzero(np.take_along_axis(scores, order, axis=1) > -np.inf)
        ranks, places = places + 1, order[rows, places]
        sizes = histories.counts()[users][rows]
        chosen = items[rows, places]
        return pl.DataFrame(
            {
                Columns.RUN_DATE: pl.repeat(run_date, len(rows), dtype=pl.Date(), eager=True),
                Columns.USER: self.audience.user_ids.gather(users[rows]),
                Columns.RANK: ranks,
                Columns.ITEM: self.catalogue[Columns.ITEM].gather(chosen),
                Columns.TITLE: self.catalogue[Columns.TITLE].gather(chosen),
                Columns.SCORE: scores[rows, places],
                Columns.RATING: pl.Series(means[rows, places]).fill_nan(None),
                Columns.SD: pl.Series(sds[rows, places]).fill_nan(None),
                Columns.SEGMENT: segments(sizes),
                Columns.SUPPORT_SIZE: sizes,
                Columns.REASONS: (
                    pl.repeat([], len(rows), dtype=RECOMMENDATIONS_SCHEMA["reasons"], eager=True)
                    if reasons is None
                    else reasons.take(rows, places).column(self.catalogue)
                ),
            }
        ).cast(RECOMMENDATIONS_SCHEMA)

    def _entries(self, block: Block) -> _Entries:
        n_users = len(block.users)
        support = block.support.to(self.device)
        predictor = self.learner.adapt(support)
        best = top_k(self._open_scores(predictor, support, n_users), self.k)
        chosen = best.indices if self.columns is None else self.columns[best.indices]
        # The block keeps its shape to the end: rows without a user ask for item 0.
        items = torch.zeros(len(support.items), self.k, dtype=torch.int64, device=self.device)
        items[:n_users] = chosen
        mean, variance = predictor.mean_var(items)
        scores = best.values.double().cpu().numpy()
        reasons = None
        if isinstance(predictor, LinearPredictor):
            reasons = explain(predictor, support, items, n_users, self.settings.reasons)
            scores = np.where(scores > -np.inf, reasons.total(), -np.inf)
        return _Entries(
            items=chosen.cpu().numpy(),
            scores=scores,
            means=on_grid(mean[:n_users].double()).cpu().numpy(),
            sds=on_grid(variance[:n_users].double().sqrt()).cpu().numpy(),
            reasons=reasons,
        )

    def _open_scores(self, predictor: Predictor, support: Support, n_users: int) -> Tensor:
        """Scores of what may still be recommended, ``[n_users, n_columns]``; -inf for the seen."""
        if self.columns is not None and self.n_columns <= _SCORED_ALONE:
            scores = predictor.scores(self.columns.expand(len(support.items), -1))[:n_users]
        else:
            scores = self._all_scores(predictor)[:n_users]
            if self.columns is not None:
                scores = scores[:, self.columns]
        # Also a copy: a predictor may hand out what it keeps, or one row for everyone.
        scores = on_grid(scores)
        best = scores.amax(dim=1)
        if not bool((best < torch.inf).all()):
            raise ModelError(
                f"learner {self.learner.name}",
                found="scores that are NaN or infinite",
                wanted="finite scores",
                next_step="train it again; a learning rate that is too high can do this",
            )
        rows, entries = support.mask[:n_users].nonzero(as_tuple=True)
        columns = self.column_of[support.items[rows, entries]]
        scores[rows[columns >= 0], columns[columns >= 0]] = -torch.inf
        return scores

    def _all_scores(self, predictor: Predictor) -> Tensor:
        scores = predictor.scores()
        if scores.shape[1] != len(self.catalogue):
            raise ModelError(
                f"learner {self.learner.name}",
                found=f"scores of {scores.shape[1]} items",
                wanted=f"one for each of the {len(self.catalogue)} items of the catalogue",
                next_step="train the learner on this catalogue, or load the bundle it belongs to",
            )
        return scores


@dataclass(frozen=True, slots=True)
class _Entries:
    """Lists of a block, ``[b, K]`` each."""

    items: IntArray
    scores: DoubleArray
    means: DoubleArray
    sds: DoubleArray
    reasons: ReasonArrays | None


def segments(sizes: npt.NDArray[np.integer]) -> pl.Series:
    """Segment name of each support size, ``[N]``."""
    bounds, names = zip(*SEGMENT_BANDS, strict=True)
    return pl.Series(names).gather(np.searchsorted(bounds, sizes, side="right") - 1)
