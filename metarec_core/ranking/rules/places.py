"""The kernel that fills the places of lists under pins, caps and quotas."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from metarec_core.episodes.types import IntArray
from metarec_core.ranking.rules.items import BoolArray


class Places(NamedTuple):
    """Lists of ``B`` users, as :func:`fill_places` makes them.

    Attributes:
        items: ``[B, k]``, -1 where a list has ended.
        places: Column among the candidates (pool, then extras), ``[B, k]``; -1 for a pin that is
            not in the pool.
        pinned: ``[B, k]``.
        quota_bits: Categories whose quota an entry is there for, ``[B, k]``.
        cap_bits: Categories whose cap left out candidates that stood before an entry, ``[B, k]``.
        capped: Candidates of the pool that caps left out, ``[B]``.
        lacking: Categories whose quota is not met, as bits, ``[B]``.
        full: Whether quotas took every place, ``[B]``.
        short: Whether the pool has too few candidates for a list by relevance alone, ``[B]``.
        filled: Categories whose cap that list has reached, as bits, ``[B]``.
    """

    items: IntArray
    places: IntArray
    pinned: BoolArray
    quota_bits: IntArray
    cap_bits: IntArray
    capped: IntArray
    lacking: IntArray
    full: BoolArray
    short: BoolArray
    filled: IntArray


def fill_places(
    pool: IntArray,
    extras: IntArray,
    pins: IntArray,
    bits: IntArray,
    caps: IntArray,
    quotas: IntArray,
) -> Places:
    """Choose and order the entries of lists.

    Args:
        pool: Ranked candidates, best first, ``[B, P]``; -1 where there are no more.
        extras: Candidates for quotas alone, ranked behind the pool, ``[B, Q]``; -1 for none.
        pins: Item at each rank, -1 for none, ``[B, k]``.
        bits: Categories of each item, ``[I]``.
        caps: Most entries of each category, ``[R]``.
        quotas: Fewest entries of each category, ``[R]``.
    """
    shape = pins.shape
    out = Places(
        items=np.full(shape, -1, dtype=np.int64),
        places=np.full(shape, -1, dtype=np.int64),
        pinned=np.zeros(shape, dtype=np.bool_),
        quota_bits=np.zeros(shape, dtype=np.int64),
        cap_bits=np.zeros(shape, dtype=np.int64),
        capped=np.zeros(shape[0], dtype=np.int64),
        lacking=np.zeros(shape[0], dtype=np.int64),
        full=np.zeros(shape[0], dtype=np.bool_),
        short=np.zeros(shape[0], dtype=np.bool_),
        filled=np.zeros(shape[0], dtype=np.int64),
    )
    candidates = np.ascontiguousarray(np.concatenate([pool, extras], axis=1), dtype=np.int64)
    _fill(candidates, pool.shape[1], pins, bits, caps, quotas, *out)
    return out


_OUT, _LEFT, _CHOSEN, _RESERVED = -1, 0, 1, 2
"""What becomes of a candidate: no candidate at all (absent, repeated or pinned), left out, an
entry, an entry for a quota."""


@njit(cache=True, nogil=True)
def _count(item_bits: int, step: int, counts: IntArray) -> None:
    category = 0
    while item_bits:
        if item_bits & 1:
            counts[category] += step
        item_bits >>= 1
        category += 1


@njit(cache=True, nogil=True)
def _at_least(counts: IntArray, bounds: IntArray) -> int:
    """Bits of the categories whose count has reached its bound."""
    reached = 0
    for category in range(len(counts)):
        if counts[category] >= bounds[category]:
            reached |= 1 << category
    return reached


@njit(cache=True, nogil=True)
def _walk(
    item_bits: IntArray,
    states: IntArray,
    blocked: IntArray,
    counts: IntArray,
    caps: IntArray,
    places: int,
    n_pool: int,
) -> int:
    """Take the pool in its order, as caps and places allow; how many were taken."""
    full, taken = _at_least(counts, caps), 0
    for place in range(n_pool):
        if taken == places:
            break
        if states[place] != _LEFT:
            continue
        over = item_bits[place] & full
        blocked[place] = over
        if not over:
            states[place] = _CHOSEN
            taken += 1
            if item_bits[place]:
                _count(item_bits[place], 1, counts)
                full = _at_least(counts, caps)
    return taken


@njit(cache=True, nogil=True)
def _reserve(
    item_bits: IntArray,
    states: IntArray,
    counts: IntArray,
    caps: IntArray,
    quotas: IntArray,
    places: int,
) -> int:
    """Reserve the best candidates that quotas still need; how many."""
    taken = 0
    full, met = _at_least(counts, caps), _at_least(counts, quotas)
    everything = (1 << len(quotas)) - 1
    for place in range(len(states)):
        if taken == places or met == everything:
            break
        own = item_bits[place]
        if states[place] == _LEFT and own & ~met and not own & full:
            states[place] = _RESERVED
            taken += 1
            _count(own, 1, counts)
            full, met = _at_least(counts, caps), _at_least(counts, quotas)
    # A later entry may serve two categories and make an earlier one needless: it then has to earn
    # its place like any other. Impossible where no item has two categories.
    for place in range(len(states) - 1, -1, -1):
        if states[place] == _RESERVED:
            _count(item_bits[place], -1, counts)
            if item_bits[place] & ~_at_least(counts, quotas):
                _count(item_bits[place], 1, counts)
            else:
                states[place] = _LEFT
                taken -= 1
    return taken


@njit(cache=True, nogil=True)
def _pin(pins: IntArray, bits: IntArray, caps: IntArray, slots: IntArray, counts: IntArray) -> int:
    """Put pins at their ranks, as caps allow; how many places stay free."""
    for category in range(len(counts)):
        counts[category] = 0
    free = len(slots)
    for rank in range(len(slots)):
        item = pins[rank]
        slots[rank] = -1
        if item >= 0 and not bits[item] & _at_least(counts, caps):
            slots[rank] = item
            free -= 1
            _count(bits[item], 1, counts)
    return free


@njit(cache=True, nogil=True)
def _admit(
    candidates: IntArray,
    bits: IntArray,
    slots: IntArray,
    seen: IntArray,
    row: int,
    states: IntArray,
    item_bits: IntArray,
    blocked: IntArray,
    first: BoolArray,
    pin_places: IntArray,
) -> None:
    """Look candidates up: those that are absent, repeated or pinned are out."""
    any_pin = False
    for rank in range(len(slots)):
        pin_places[rank] = -1
        any_pin |= slots[rank] >= 0
    for place in range(len(candidates)):
        item = candidates[place]
        states[place] = _LEFT
        blocked[place] = 0
        first[place] = False
        if item < 0 or seen[item] == row:
            states[place] = _OUT
            continue
        seen[item] = row
        item_bits[place] = bits[item]
        if any_pin:
            for rank in range(len(slots)):
                if slots[rank] == item:
                    states[place] = _OUT
                    pin_places[rank] = place


@njit(cache=True, nogil=True)
def _start_again(
    states: IntArray, blocked: IntArray, first: BoolArray, counts: IntArray, by_pins: IntArray
) -> None:
    """Take the list back, and remember what it held."""
    for place in range(len(states)):
        blocked[place] = 0
        first[place] = states[place] == _CHOSEN
        if states[place] == _CHOSEN:
            states[place] = _LEFT
    for category in range(len(counts)):
        counts[category] = by_pins[category]


@njit(cache=True, nogil=True)
def _fill(
    candidates: IntArray,
    n_pool: int,
    pins: IntArray,
    bits: IntArray,
    caps: IntArray,
    quotas: IntArray,
    items: IntArray,
    places: IntArray,
    pinned: BoolArray,
    quota_bits: IntArray,
    cap_bits: IntArray,
    capped: IntArray,
    lacking: IntArray,
    full: BoolArray,
    short: BoolArray,
    filled: IntArray,
) -> None:
    n_users, n_candidates = candidates.shape
    k, n_ruled = pins.shape[1], len(caps)
    everything = (1 << n_ruled) - 1
    with_quota = everything & ~_at_least(np.zeros(n_ruled, dtype=np.int64), quotas)
    seen = np.full(len(bits), -1, dtype=np.int64)
    pin_places, slots = np.empty(k, dtype=np.int64), np.empty(k, dtype=np.int64)
    states, blocked = np.empty(n_candidates, dtype=np.int64), np.empty(n_candidates, dtype=np.int64)
    item_bits, first = (
        np.empty(n_candidates, dtype=np.int64),
        np.empty(n_candidates, dtype=np.bool_),
    )
    by_pins, counts = np.empty(n_ruled, dtype=np.int64), np.empty(n_ruled, dtype=np.int64)
    for row in range(n_users):
        free = _pin(pins[row], bits, caps, slots, by_pins)
        _admit(
            candidates[row], bits, slots, seen, row, states, item_bits, blocked, first, pin_places
        )
        for category in range(n_ruled):
            counts[category] = by_pins[category]
        short[row] = _walk(item_bits, states, blocked, counts, caps, free, n_pool) < free
        filled[row] = _at_least(counts, caps)
        lacked = everything & ~_at_least(counts, quotas)
        if lacked:
            # The list by relevance alone does not meet the quotas. What they need is reserved
            # first, and the rest of the places filled as before.
            _start_again(states, blocked, first, counts, by_pins)
            reserved = _reserve(item_bits, states, counts, caps, quotas, free)
            full[row] = reserved == free
            _walk(item_bits, states, blocked, counts, caps, free - reserved, n_pool)
        lacking[row] = everything & ~_at_least(counts, quotas)

        entry, place, passed = 0, 0, 0
        for rank in range(k):
            if slots[rank] >= 0:
                items[row, entry] = slots[rank]
                places[row, entry] = pin_places[rank]
                pinned[row, entry] = True
                entry += 1
                continue
            while place < n_candidates and states[place] <= _LEFT:
                passed |= blocked[place]
                place += 1
            if place == n_candidates:
                continue
            items[row, entry] = candidates[row, place]
            places[row, entry] = place
            if states[place] == _RESERVED and not first[place]:
                own = item_bits[place]
                quota_bits[row, entry] = own & lacked if own & lacked else own & with_quota
            else:
                cap_bits[row, entry] = passed
            entry += 1
            place += 1
        for place in range(n_pool):
            capped[row] += blocked[place] != 0 and states[place] == _LEFT
