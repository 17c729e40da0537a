"""From a ranked pool of open candidates to the list that is published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metarec_core.episodes.types import IntArray
from metarec_core.ranking.pools import Pool
from metarec_core.ranking.rules.compiled import CompiledRules
from metarec_core.ranking.rules.items import BoolArray
from metarec_core.ranking.rules.places import Places, fill_places

DoubleArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class QuotaPool:
    """A pool that a quota may need beside the common one.

    Attributes:
        name: The category.
        mask: Items of the category, ``[I]``; a user's own mask and closed items come on top.
        depth: How many of the best are enough, unless caps of other categories stand in the way.
    """

    name: str
    mask: BoolArray
    depth: int


@dataclass(frozen=True, slots=True)
class Assembled:
    """Lists of ``B`` users.

    Attributes:
        items: Catalogue indices in the order of the list, ``[B, k]``; -1 behind its end.
        places: Column of each entry in the pool, ``[B, k]``; -1 for entries from elsewhere.
        scores: ``[B, k]``; NaN where no pool holds the entry (a pinned item that ranks low) and
            behind the end.
        sizes: Entries of each list, ``[B]``.
        pinned: Whether a pin put the entry there, ``[B, k]``.
        quota_bits: Categories whose quota the entry is there for, as bits, ``[B, k]``.
        cap_bits: Categories whose cap left out candidates before the entry, as bits, ``[B, k]``.
        capped: Candidates of the pool that caps left out, ``[B]``.
        lacking: Categories whose quota is not met, as bits, ``[B]``.
        needs_deeper: Whether a larger pool could change the list, ``[B]``.
        spent: Categories that such a pool need not hold, as bits, ``[B]``: their caps are reached,
            and no candidate of them that ranks lower can enter the list.
        needs_quota_pools: Whether pools of the quotas' own could change the list, ``[B]``.
    """

    items: IntArray
    places: IntArray
    scores: DoubleArray
    sizes: IntArray
    pinned: BoolArray
    quota_bits: IntArray
    cap_bits: IntArray
    capped: IntArray
    lacking: IntArray
    needs_deeper: BoolArray
    spent: IntArray
    needs_quota_pools: BoolArray


def quota_pools(compiled: CompiledRules) -> tuple[QuotaPool, ...]:
    """The pools that :func:`assemble` takes beside the common one, one for each quota."""
    categories = compiled.categories
    # Where items have several categories, caps of others may pass over the best ones.
    spare = 0 if categories.exclusive else compiled.k
    return tuple(
        QuotaPool(
            categories.names[place], categories.of(place), int(categories.quotas[place]) + spare
        )
        for place in np.flatnonzero(categories.quotas).tolist()
    )


def assemble(
    pool: Pool,
    compiled: CompiledRules,
    users: IntArray,
    *,
    quotas: Sequence[Pool] | None = None,
) -> Assembled:
    """Make lists that obey pins, caps and quotas, else in the order of the pool.

    Pinned items stand at their ranks, those left out that would exceed a cap; in a list too short
    for its rank a pin stands as far down as the list goes. The other places take the pool in its
    order, candidates whose category is full passed over. If that list does not meet the quotas,
    the best candidates that they need are reserved first and the places that remain filled as
    before; entries keep the order of the pool, so that reserved ones stand last unless they
    rank higher. Where no item has two of the ruled categories, this is the best list there is:
    no other that obeys the rules holds a better candidate at the first place where they differ.
    Items with several are chosen greedily; a quota is then met wherever the best candidates that
    need it can be taken one by one.

    Args:
        pool: Open candidates of each user, best first, perhaps re-ranked; items of the pool must
            be open to the user.
        compiled: The rules.
        users: Rows of the users, ``[B]``.
        quotas: A pool for each of :func:`quota_pools`, in that order, best first by score, of its
            depth or narrower where no user has that many; None if they were not asked for.

    Returns:
        The lists. Those with ``needs_quota_pools`` or ``needs_deeper`` are not final: ask the
        engine for these users again, for the pools of quotas or for a larger pool.
    """
    extras, extra_scores = _extras(quotas, len(users))
    rules = compiled.categories
    made = fill_places(
        pool.items, extras, compiled.pinned(users), rules.bits, rules.caps, rules.quotas
    )
    deeper, own_pools = _unsettled(pool, compiled, users, quotas, made)
    n_pool = pool.items.shape[1]
    every_score = np.concatenate([pool.scores, extra_scores], axis=1)
    scores = np.full(made.items.shape, np.nan)
    rows, ranks = np.nonzero(made.places >= 0)
    scores[rows, ranks] = every_score[rows, made.places[rows, ranks]]
    return Assembled(
        items=made.items,
        places=np.where(made.places < n_pool, made.places, -1),
        scores=scores,
        sizes=(made.items >= 0).sum(axis=1),
        pinned=made.pinned,
        quota_bits=made.quota_bits,
        cap_bits=made.cap_bits,
        capped=made.capped,
        lacking=made.lacking,
        needs_deeper=deeper,
        spent=_spent(compiled, made),
        needs_quota_pools=own_pools,
    )


def _extras(quotas: Sequence[Pool] | None, n_users: int) -> tuple[IntArray, DoubleArray]:
    """The quotas' pools side by side, by score and then by item, absent ones last."""
    if not quotas:
        return np.empty((n_users, 0), dtype=np.int64), np.empty((n_users, 0))
    items = np.concatenate([each.items for each in quotas], axis=1)
    scores = np.concatenate([each.scores for each in quotas], axis=1)
    scores = np.where(items < 0, -np.inf, scores)
    order = np.lexsort((items, -scores), axis=1)
    return np.take_along_axis(items, order, axis=1), np.take_along_axis(scores, order, axis=1)


def _spent(compiled: CompiledRules, made: Places) -> IntArray:
    """See :class:`Assembled`.

    A list by relevance never gets out of a category again once its cap is reached. What is
    reserved for quotas may take another way: where items have several categories, a lower one may
    serve a quota together with a category that is full.
    """
    rules = compiled.categories
    if not rules.exclusive and rules.quotas.any():
        return np.zeros_like(made.filled)
    return np.where(made.short, made.filled, 0)


def _unsettled(
    pool: Pool,
    compiled: CompiledRules,
    users: IntArray,
    quotas: Sequence[Pool] | None,
    made: Places,
) -> tuple[BoolArray, BoolArray]:
    """Which lists a larger pool, and pools of quotas, could change, ``[B]`` each."""
    rules = compiled.categories
    # Of a pool that is too small even without quotas it cannot be said what they change.
    short = made.short | (made.items[:, -1] < 0)
    lacking = made.lacking != 0
    if rules.exclusive:
        # Every reserved entry serves one quota: with all places reserved no list does better.
        lacking &= ~made.full
    asked = np.flatnonzero(short | lacking)
    ended = np.ones(len(users), dtype=np.bool_)
    ended[asked] = (pool.items[asked] < 0).any(axis=1)
    left = asked[~ended[asked]]
    held = (pool.items[left] >= 0).sum(axis=1)
    ended[left] = held >= compiled.open_counts(users[left])
    if quotas is None:
        return short & ~ended, lacking & ~ended
    own_ended = np.ones(len(users), dtype=np.bool_)
    for asked_for, each in zip(quota_pools(compiled), quotas, strict=True):
        lacks = made.lacking >> rules.names.index(asked_for.name) & 1 == 1
        narrow = each.items.shape[1] < asked_for.depth
        own_ended &= ~lacks | narrow | (each.items < 0).any(axis=1)
    return (short | (lacking & ~own_ended)) & ~ended, np.zeros(len(users), dtype=np.bool_)
