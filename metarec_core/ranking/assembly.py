"""From candidates to lists: re-ranking first, then rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch

from metarec_core.episodes.types import IntArray, Support
from metarec_core.learners.base import Predictor, UncertainScores
from metarec_core.ranking import rules as ruling
from metarec_core.ranking.diversity.pool import Pool as DiversePool
from metarec_core.ranking.diversity.pool import user_keys
from metarec_core.ranking.diversity.registry import METHODS
from metarec_core.ranking.diversity.rerank import order
from metarec_core.ranking.diversity.taste import liked
from metarec_core.ranking.pools import Group, Pool
from metarec_core.ranking.request import Diversity, ListSettings
from metarec_core.ranking.rules import CompiledRules
from metarec_core.ranking.search.scores import BoolArray, DoubleArray

_WITH_RULES = 3
"""Candidates, as a multiple of a list's length, that caps and quotas begin with."""

_TEXTS = pl.List(pl.String())

_DEEPER = 4
"""How much larger a pool becomes where it was too small."""

_CANDIDATES_AT_ONCE = 1 << 18
"""Most candidates asked for at once where pools were too small."""


@dataclass(frozen=True, slots=True)
class Adapted:
    """Users that a learner has read.

    Attributes:
        users: Their rows in the audience, ``[b]``.
        support: Their block's support, ``[B, S]``, ``B >= b``.
        predictor: The block's predictor.
    """

    users: IntArray
    support: Support
    predictor: Predictor


@dataclass(frozen=True, slots=True)
class Lists:
    """Lists of a group of users.

    Attributes:
        items: Catalogue indices, ``[B, K]``; -1 behind the end.
        scores: ``[B, K]``; -inf behind the end, NaN where no pool holds the entry.
        pool: The candidates, also those that were not to be listed.
        flags: Flags of each entry, in the order of lists and ranks; None where there is none.
        ordered: Whether entries stand in the order of their scores.
    """

    items: IntArray
    scores: DoubleArray
    pool: Pool
    flags: pl.Series | None
    ordered: bool

    def rows(self, start: int, stop: int) -> Lists:
        """Some of the lists, without their flags."""
        pool = Pool(self.pool.items[start:stop], self.pool.scores[start:stop])
        return Lists(self.items[start:stop], self.scores[start:stop], pool, None, self.ordered)


def assemble_lists(
    adapted: Sequence[Adapted],
    group: Group,
    user_ids: pl.Series,
    settings: ListSettings,
) -> Lists:
    """Lists of a group.

    Args:
        adapted: The group's users, block by block.
        group: Where their candidates come from, in the same order.
        user_ids: Ids of the whole audience.
        settings: What lists are to look like.
    """
    diversity, compiled, k = settings.diversity, settings.rules, settings.k
    if diversity is not None and not diversity.settings.reorders:
        diversity = None
    sorted_out = compiled is not None and _says_more_than_masks(compiled)
    depth = max(settings.re_ranked, _WITH_RULES * k) if sorted_out else settings.re_ranked
    candidates = group.best(max(settings.pool, depth))
    pool = Pool(candidates.items[:, :depth], candidates.scores[:, :depth])
    ranked, positions = pool, None
    if diversity is not None:
        length = None if sorted_out else k
        positions = _reordered(adapted, pool, user_ids, diversity, length)
        ranked = _at(pool, positions)
    if compiled is not None and sorted_out:
        users = np.concatenate([block.users for block in adapted])
        made = _by_rules(group, ranked, compiled, users)
        items, scores = made.items, np.where(made.items >= 0, made.scores, -np.inf)
        flags: pl.Series | None = ruling.rule_flags(made, compiled, users)
        places = np.where(made.pinned, -1, made.places)
    else:
        items, scores = ranked.items[:, :k], ranked.scores[:, :k]
        flags = _short_flags(items, k)
        places = np.broadcast_to(np.arange(items.shape[1]), items.shape)
    if diversity is not None and positions is not None:
        moved = _moved(positions, places)[items >= 0]
        flags = _with_moves(flags, moved, diversity.settings.method)
    return Lists(items, scores, candidates, flags, ordered=diversity is None and not sorted_out)


def _says_more_than_masks(compiled: CompiledRules) -> bool:
    categories = compiled.categories
    capped = bool((categories.caps < compiled.k).any())
    return capped or bool(categories.quotas.any()) or compiled.pins.any


def _reordered(
    adapted: Sequence[Adapted],
    pool: Pool,
    user_ids: pl.Series,
    diversity: Diversity,
    length: int | None,
) -> IntArray:
    """Positions in the pool, in the new order, ``[B, L]``."""
    settings, parts, start = diversity.settings, [], 0
    for block in adapted:
        stop = start + len(block.users)
        items, scores = pool.items[start:stop], pool.scores[start:stop]
        covariance = None
        if METHODS[settings.method].covariance and isinstance(block.predictor, UncertainScores):
            covariance = _covariance(block, items)
        history, values, known = (
            part[: len(items)].cpu().numpy()
            for part in (block.support.items, block.support.values, block.support.mask)
        )
        diverse = DiversePool(
            items=items,
            scores=scores,
            history=history,
            history_mask=known,
            covariance=covariance,
            users=user_keys(user_ids.gather(block.users)),
            liked=liked(values, known, diversity.liked_from),
        )
        parts.append(order(diverse, diversity.space, settings, seed=diversity.seed, length=length))
        start = stop
    return np.concatenate(parts)


def _covariance(block: Adapted, items: IntArray) -> DoubleArray:
    """Of a block's candidates, asked in the block's own shape."""
    asked = torch.zeros(len(block.support.items), items.shape[1], dtype=torch.int64)
    asked[: len(items)] = torch.from_numpy(np.maximum(items, 0))
    assert isinstance(block.predictor, UncertainScores)
    found = block.predictor.score_covariance(asked.to(block.support.items.device))
    covariance: DoubleArray = found[: len(items)].double().cpu().numpy()
    return covariance


def _at(pool: Pool, positions: IntArray) -> Pool:
    there = positions >= 0
    places = np.maximum(positions, 0)
    return Pool(
        np.where(there, np.take_along_axis(pool.items, places, axis=1), -1),
        np.where(there, np.take_along_axis(pool.scores, places, axis=1), -np.inf),
    )


def _by_rules(
    group: Group, ranked: Pool, compiled: CompiledRules, users: IntArray
) -> ruling.Assembled:
    """Walk down the candidates by the rules; whoever's do not suffice gets more of them."""
    made = _assembled(group, ranked, compiled, users, None)
    lists = _parts(made)
    asked = np.flatnonzero(made.needs_deeper)
    waiting = [(asked, _rows(ranked, asked), made.spent[asked])] if len(asked) else []
    while waiting:
        rows, pool, spent = waiting.pop()
        for places, n_more, found in _more(group, pool, compiled, rows, spent):
            served = rows[places]
            longer = _extended(_rows(pool, places), found, n_more)
            again = _assembled(group, longer, compiled, users[served], served)
            for whole, part in zip(lists, _parts(again), strict=True):
                whole[served] = part
            left = np.flatnonzero(again.needs_deeper)
            if len(left):
                waiting.append((served[left], _rows(longer, left), again.spent[left]))
    return replace(made, **dict(zip(_FIELDS, lists, strict=True)))


def _more(
    group: Group, pool: Pool, compiled: CompiledRules, rows: IntArray, spent: IntArray
) -> Iterator[tuple[IntArray, int, Pool]]:
    """Further candidates, a portion of the users at a time, so that memory stays what it was.

    Args:
        group: Where they come from.
        pool: What the users had, ``[b, P]``, none of it missing.
        compiled: The rules.
        rows: The users' rows in the group, ``[b]``.
        spent: Categories that candidates need not have any more, as bits, ``[b]``.

    Yields:
        Places in ``rows``, how many candidates are to come behind the pool, and where from: fewer
        than so many others only if there are no more.
    """
    width = pool.items.shape[1]
    for bits in np.unique(spent).tolist():
        places = np.flatnonzero(spent == bits)
        if bits:
            # What has its place in the list already is found again: at most k.
            n_more, depth = compiled.k, 2 * compiled.k
            only = (compiled.categories.bits & bits) == 0
        else:
            depth = max(min(_DEEPER * width, compiled.n_items), width + 1)
            n_more, only = depth - width, None
        step = max(1, _CANDIDATES_AT_ONCE // depth)
        for start in range(0, len(places), step):
            portion = places[start : start + step]
            yield portion, n_more, group.best(depth, rows[portion], only)


_FIELDS = (
    "items",
    "places",
    "scores",
    "sizes",
    "pinned",
    "quota_bits",
    "cap_bits",
    "capped",
    "lacking",
)


def _parts(made: ruling.Assembled) -> list[np.ndarray]:
    return [getattr(made, name).copy() for name in _FIELDS]


def _assembled(
    group: Group,
    ranked: Pool,
    compiled: CompiledRules,
    users: IntArray,
    rows: IntArray | None,
) -> ruling.Assembled:
    """Lists from candidates; where quotas need candidates of their own, from these too."""
    made = ruling.assemble(ranked, compiled, users)
    asked = np.flatnonzero(made.needs_quota_pools)
    if not len(asked):
        return made
    within = asked if rows is None else rows[asked]
    quotas = [group.best(one.depth, within, one.mask) for one in ruling.quota_pools(compiled)]
    again = ruling.assemble(_rows(ranked, asked), compiled, users[asked], quotas=quotas)
    lists = _parts(made)
    for whole, part in zip(lists, _parts(again), strict=True):
        whole[asked] = part
    deeper = made.needs_deeper.copy()
    deeper[asked] = again.needs_deeper
    return replace(made, **dict(zip(_FIELDS, lists, strict=True)), needs_deeper=deeper)


def _extended(pool: Pool, found: Pool, n_more: int) -> Pool:
    """A pool, and behind it the best ``n_more`` of those found that it does not hold."""
    width = pool.items.shape[1] + n_more
    items = np.concatenate([pool.items, found.items], axis=1)
    scores = np.concatenate([pool.scores, found.scores], axis=1)
    # Of an item that comes twice the first place counts: the sort keeps the order of equals.
    order = np.argsort(items, axis=1, kind="stable")
    ascending = np.take_along_axis(items, order, axis=1)
    again = np.zeros(items.shape, dtype=np.bool_)
    again[:, 1:] = ascending[:, 1:] == ascending[:, :-1]
    left_out = items < 0
    left_out |= np.take_along_axis(again, np.argsort(order, axis=1), axis=1)
    front = np.argsort(left_out, axis=1, kind="stable")[:, :width]
    there = ~np.take_along_axis(left_out, front, axis=1)
    return Pool(
        np.where(there, np.take_along_axis(items, front, axis=1), -1),
        np.where(there, np.take_along_axis(scores, front, axis=1), -np.inf),
    )


def _rows(pool: Pool, rows: IntArray) -> Pool:
    return Pool(pool.items[rows], pool.scores[rows])


def _moved(positions: IntArray, places: IntArray) -> BoolArray:
    """Whether re-ranking moved an entry up, ``[B, K]``.

    Args:
        positions: Place by score of each re-ranked candidate, ``[B, L]``.
        places: Place of each entry among the re-ranked, ``[B, K]``; what lies beyond them, or -1,
            was not re-ranked.
    """
    within = (places >= 0) & (places < positions.shape[1])
    by_score = np.take_along_axis(positions, np.where(within, places, 0), axis=1)
    moved: BoolArray = within & (by_score > places)
    return moved


def _with_moves(flags: pl.Series | None, moved: BoolArray, method: str) -> pl.Series:
    """Flags of entries, ``[N]``, that of re-ranking before others."""
    texts = pl.Series("flags", [[], [f"moved_up:{method}"]], dtype=_TEXTS)
    moves = texts.gather(moved.astype(np.uint32))
    return moves if flags is None else pl.select(pl.concat_list(moves, flags)).to_series()


def _short_flags(items: IntArray, k: int) -> pl.Series | None:
    """Why lists without rules of their own are short, by entry; None where none is."""
    sizes = (items >= 0).sum(axis=1)
    short = sizes < k
    if not short.any():
        return None
    rows, ranks = np.nonzero(items >= 0)
    last = (ranks + 1 == sizes[rows]) & short[rows]
    texts = [[f"short: only {size} open item{'s' if size > 1 else ''}"] for size in range(1, k)]
    told = pl.Series("flags", [[], *texts], dtype=_TEXTS)
    return told.gather(np.where(last, sizes[rows], 0))
