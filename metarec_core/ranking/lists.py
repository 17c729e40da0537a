"""Ranked lists of many users, tile by tile: what the night publishes and the day answers with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from metarec_core.episodes.types import IntArray
from metarec_core.errors import ModelError
from metarec_core.learners.base import (
    FactorPredictor,
    Learner,
    LinearPredictor,
    Predictor,
    UncertainScores,
)
from metarec_core.ranking.assembly import Adapted, Lists, assemble_lists
from metarec_core.ranking.blocks import Block, blocks
from metarec_core.ranking.entries import Entries
from metarec_core.ranking.grid import on_grid
from metarec_core.ranking.indexes import Indexes, worth_an_index
from metarec_core.ranking.open_items import OpenItems
from metarec_core.ranking.pools import Group, ScoredGroup, SearchedGroup
from metarec_core.ranking.reasons import MOST_SHARES, Asked, ReasonArrays, explain
from metarec_core.ranking.request import Audience, ListSettings
from metarec_core.ranking.search.scores import DoubleArray
from metarec_core.schema import RECOMMENDATIONS_SCHEMA, SEGMENT_BANDS, Columns

_CPU = torch.device("cpu")

_MANY_USERS = 64
"""From so many users on items are prepared for a search that nobody prepared them for."""

_JOINT = 32
"""Entries whose covariance is made at once where the variances alone are wanted."""

_BLOCKS_TOGETHER = 8
"""Most blocks whose entries are explained at once."""

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
    """The best ``k`` open items of every user, in the order of ``audience``.

    Open is what a user has not interacted with, or what the rules say. A list is shorter than
    ``k`` where fewer items are open; the last of its ``rule_flags`` says so. Figures lie on a grid
    of about a millionth (:mod:`metarec_core.ranking.grid`); scores that are equal there are ordered
    by catalogue index, which is the order of ``item_id``. For a learner whose predictors are linear
    the score is the sum of its shares, which ``reasons`` holds; other learners give no reasons.

    A learner whose scores are products has its candidates searched
    (:mod:`metarec_core.ranking.search`); of any other all scores of a block of users are made and
    sorted out.

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
        ConfigError: If a setting is out of range, or re-ranking needs what the learner lacks.
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
        self.open = OpenItems.of(audience, settings, len(catalogue))
        self.indexes: Indexes | None = None
        if worth_an_index(learner, len(catalogue)):
            # To prepare items for a few users takes longer than to score them all.
            many = len(audience.user_ids) >= _MANY_USERS
            self.indexes = settings.indexes or (Indexes(learner) if many else None)
        asked = self.open.anyone
        self.columns = None if asked.all() else torch.from_numpy(np.flatnonzero(asked)).to(device)
        self.n_columns = int(asked.sum())

    @torch.no_grad()
    def tile(self, users: IntArray, run_date: date | None) -> pl.DataFrame:
        """Lists of consecutive ``users``."""
        entries = Entries.empty(len(users), self.settings)
        made = blocks(
            self.audience.histories,
            self.audience.user_features,
            users,
            n_columns=0 if self.indexes else self.n_columns,
        )
        if self.n_columns and self.indexes is not None:
            # One search for all of the tile: its posteriors are held until they have explained.
            adapted = [self._adapted(block) for block in made]
            if adapted:
                self._fill(entries, users[0], adapted, self._searched(adapted))
        elif self.n_columns:
            for block in made:
                one = self._adapted(block)
                self._fill(entries, users[0], [one], self._scored(one))
        return self._frame(entries, users, run_date)

    def _adapted(self, block: Block) -> Adapted:
        support = block.support.to(self.device)
        return Adapted(block.users, support, self.learner.adapt(support))

    def _searched(self, adapted: Sequence[Adapted]) -> SearchedGroup:
        assert self.indexes is not None
        users = np.concatenate([block.users for block in adapted])
        queries = []
        for block in adapted:
            assert isinstance(block.predictor, FactorPredictor)
            queries.append(block.predictor.query[: len(block.users)])
        return SearchedGroup(
            self.indexes,
            torch.cat(queries),
            self.open.masks,
            self.open.mask_of_user[users],
            self.open.closed.select(users),
            self.settings.threads,
        )

    def _scored(self, block: Adapted) -> ScoredGroup:
        columns, rows = self.columns, len(block.users)
        if columns is not None and self.n_columns <= _SCORED_ALONE:
            scores = block.predictor.scores(columns.expand(len(block.support.items), -1))
        else:
            scores = self._all_scores(block.predictor)
            scores = scores if columns is None else scores[:, columns]
        return ScoredGroup.of(
            scores[:rows],
            columns,
            len(self.catalogue),
            self.open.masks,
            self.open.mask_of_user[block.users],
            self.open.closed.select(block.users),
            self.learner.name,
        )

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

    def _fill(self, entries: Entries, first: int, adapted: Sequence[Adapted], group: Group) -> None:
        """Write the lists of a group into the entries of its tile."""
        lists = assemble_lists(adapted, group, self.audience.user_ids, self.settings)
        rows = np.concatenate([block.users for block in adapted]) - first
        start = 0
        for some in _together(adapted, self.settings.k):
            stop = start + sum(len(block.users) for block in some)
            self._explain(entries, rows[start:stop], some, lists.rows(start, stop))
            start = stop
        entries.put_flags(rows, lists)

    def _explain(
        self, entries: Entries, rows: IntArray, blocks: Sequence[Adapted], lists: Lists
    ) -> None:
        """Figures and reasons of some blocks' entries, each asked in its own shape."""
        settings = self.settings
        items = self._by_block(blocks, lists.items, filler=0)
        means, sds = self._figures(blocks, items)
        scores = lists.scores
        if settings.explained and isinstance(blocks[0].predictor, LinearPredictor):
            reasons = self._reasons(blocks, items, lists)
            entries.put_reasons(rows, reasons)
            scores = np.where(lists.items >= 0, reasons.total(), -np.inf)
        elif np.isnan(scores).any():
            own = [
                block.predictor.scores(asked)[: len(block.users)]
                for block, asked in zip(blocks, items, strict=True)
            ]
            scores = np.where(np.isnan(scores), _array(on_grid(torch.cat(own).double())), scores)
        if settings.relevance is not None:
            sizes = [block.support.sizes[: len(block.users)] for block in blocks]
            entries.relevant[rows] = settings.relevance.p_relevant(
                mean=means,
                # Of the published figure, so that readers can do the sum again.
                variance=np.square(sds),
                scores=scores,
                support_sizes=_array(torch.cat(sizes)),
            )
        entries.items[rows], entries.scores[rows] = lists.items, scores
        entries.means[rows], entries.sds[rows] = means, np.where(sds > 0.0, sds, np.nan)
        if lists.ordered:
            # Shares are rounded one by one: their sums may order what the scores left close.
            entries.order[rows] = np.lexsort((lists.items, -scores), axis=1)

    def _reasons(
        self, blocks: Sequence[Adapted], items: Sequence[Tensor], lists: Lists
    ) -> ReasonArrays:
        settings = self.settings
        pools: Sequence[Tensor | None] = [None] * len(blocks)
        if settings.counterfactuals:
            pools = self._by_block(blocks, lists.pool.items, filler=-1)
        asked = [
            Asked(
                cast(LinearPredictor, block.predictor), block.support, own, len(block.users), pool
            )
            for block, own, pool in zip(blocks, items, pools, strict=True)
        ]
        return explain(asked, settings.reasons, detail=settings.detail)

    def _figures(
        self, blocks: Sequence[Adapted], items: Sequence[Tensor]
    ) -> tuple[DoubleArray, DoubleArray]:
        """Forecasts of entries and how unsure they are, ``[T, K]`` each."""
        means, variances = [], []
        for block, own in zip(blocks, items, strict=True):
            n_users = len(block.users)
            mean, variance = block.predictor.mean_var(own)
            if _all_nan(mean):
                variance = self._unsure_of(block.predictor, own)
            means.append(mean[:n_users].double())
            variances.append(variance[:n_users].double())
        return _array(on_grid(torch.cat(means))), _array(on_grid(torch.cat(variances).sqrt()))

    def _unsure_of(self, predictor: Predictor, items: Tensor) -> Tensor:
        """Variance of list scores under the preference, ``[B, K]``; NaN where it is not known."""
        if isinstance(predictor, UncertainScores):
            # A few entries at a time: the covariance of all is K times as large as its diagonal.
            parts = [
                predictor.score_covariance(part).double().diagonal(dim1=1, dim2=2)
                for part in torch.split(items, _JOINT, dim=1)
            ]
            return torch.cat(parts, dim=1).clamp_min(0.0)
        return torch.full(items.shape, torch.nan, dtype=torch.float64, device=items.device)

    def _by_block(self, blocks: Sequence[Adapted], items: IntArray, filler: int) -> list[Tensor]:
        """``[B, K]`` of each block; filler where a row has no user, or a place no item."""
        found, start = [], 0
        for block in blocks:
            own = items[start : start + len(block.users)]
            asked = torch.full((len(block.support.items), items.shape[1]), filler)
            asked[: len(own)] = torch.from_numpy(np.where(own >= 0, own, filler))
            found.append(asked.to(self.device))
            start += len(own)
        return found

    def _frame(self, entries: Entries, users: IntArray, run_date: date | None) -> pl.DataFrame:
        rows, ranks = np.nonzero(np.take_along_axis(entries.items, entries.order, axis=1) >= 0)
        places = entries.order[rows, ranks]
        sizes = self.audience.histories.counts()[users][rows]
        chosen = entries.items[rows, places]
        return pl.DataFrame(
            {
                Columns.RUN_DATE: pl.repeat(run_date, len(rows), dtype=pl.Date(), eager=True),
                Columns.USER: self.audience.user_ids.gather(users[rows]),
                Columns.RANK: ranks + 1,
                Columns.ITEM: self.catalogue[Columns.ITEM].gather(chosen),
                Columns.TITLE: self.catalogue[Columns.TITLE].gather(chosen),
                Columns.SCORE: entries.scores[rows, places],
                Columns.RATING: pl.Series(entries.means[rows, places]).fill_nan(None),
                Columns.SD: pl.Series(entries.sds[rows, places]).fill_nan(None),
                Columns.P_RELEVANT: pl.Series(entries.relevant[rows, places]).fill_nan(None),
                Columns.SEGMENT: segments(sizes),
                Columns.SUPPORT_SIZE: sizes,
                Columns.REASONS: (
                    pl.repeat([], len(rows), dtype=RECOMMENDATIONS_SCHEMA["reasons"], eager=True)
                    if entries.reasons is None
                    else entries.reasons.take(rows, places).column(
                        self.catalogue, self.settings.features
                    )
                ),
                # What a rule did to a rank, not to an item: it stays where it is.
                Columns.RULE_FLAGS: entries.flags_at(rows, ranks),
            }
        ).cast(RECOMMENDATIONS_SCHEMA)


def _together(adapted: Sequence[Adapted], k: int) -> Iterator[Sequence[Adapted]]:
    """Consecutive blocks of one width: what is done to each number costs less for many at once."""
    start = 0
    while start < len(adapted):
        shape = adapted[start].support.items.shape
        most = max(1, min(_BLOCKS_TOGETHER, MOST_SHARES // (shape.numel() * k)))
        stop = start + 1
        while stop < min(start + most, len(adapted)) and adapted[stop].support.items.shape == shape:
            stop += 1
        yield adapted[start:stop]
        start = stop


def _array(values: Tensor) -> Any:
    return values.cpu().numpy()


def _all_nan(values: Tensor) -> bool:
    return bool(values.isnan().all())


def segments(sizes: npt.NDArray[np.integer]) -> pl.Series:
    """Segment name of each support size, ``[N]``."""
    bounds, names = zip(*SEGMENT_BANDS, strict=True)
    return pl.Series(names).gather(np.searchsorted(bounds, sizes, side="right") - 1)
