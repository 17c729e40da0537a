"""The last step of a search: the scores that decide, of the candidates that are left."""

from __future__ import annotations

import numpy as np
from numba import njit

from metarec_core.ranking.search.candidates import kth_largest, thin
from metarec_core.ranking.search.scores import exact_score, put


@njit(cache=True, nogil=True)
def _score(  # type: ignore[no-untyped-def]
    query,
    vectors,
    appeal,
    order,
    positions,
    lower,
    upper,
    likely,
    likely_ones,
    bar,
    steps,
    kept,
    kept_at,
    exact,
    lanes,
):
    """Score the likely candidates of a user, or of the others those that can reach the bar."""
    for place in range(len(positions)):
        if (lower[place] >= likely) != likely_ones or upper[place] < bar:
            continue
        item = order[positions[place]]
        score = exact_score(query, vectors[item], appeal[item], lanes)
        if steps > 0.0:
            score = np.round(score * steps) / steps
        exact[kept], kept_at[kept] = score, item
        kept += 1
    return kept


@njit(cache=True, nogil=True)
def rescore(  # type: ignore[no-untyped-def]
    queries,
    vectors,
    appeal,
    order,
    positions,
    lower,
    upper,
    counts,
    bars,
    overflow,
    k,
    steps,
    items,
    scores,
):
    """The ``k`` best of each user's candidates by the scores that decide.

    The ``k`` candidates with the largest lower bounds come first: what they reach is a bar that
    most of the others cannot.

    Args:
        queries: ``[U, d]`` float64, padded.
        vectors: Of all items, ``[I, d]``, padded.
        appeal: ``[I]`` float64.
        order: Catalogue index of each position.
        positions: Candidates, ``[U, C]``; changed, as are the next four.
        lower: Least score of each.
        upper: Most.
        counts: ``[U]``.
        bars: ``[U]``.
        overflow: Users who are left out, ``[U]``.
        k: Wanted.
        steps: Steps a unit of the grid that scores lie on; 0 for none.
        items: Written: the best, ``[U, k]``; -1 where there are fewer.
        scores: Written: their scores; -inf there.
    """
    capacity = positions.shape[1]
    scratch, exact = np.empty(capacity, dtype=np.float32), np.empty(capacity)
    wide, lanes = np.empty(capacity), np.empty(8)
    kept_at = np.empty(capacity, dtype=np.int64)
    for user in range(len(queries)):
        if overflow[user]:
            continue
        count, _ = thin(
            positions[user], lower[user], upper[user], counts[user], k, bars[user], scratch
        )
        likely = np.float32(-np.inf)
        if count > k:
            likely = kth_largest(lower[user], count, k, scratch)
        kept = 0
        bar = -np.inf
        for likely_ones in (True, False):
            kept = _score(
                queries[user],
                vectors,
                appeal,
                order,
                positions[user, :count],
                lower[user],
                upper[user],
                likely,
                likely_ones,
                bar,
                steps,
                kept,
                kept_at,
                exact,
                lanes,
            )
            if kept:
                bar = kth_largest(exact, kept, min(k, kept), wide)
        found = 0
        for place in range(kept):
            if exact[place] >= bar:
                found = put(exact[place], kept_at[place], found, items[user], scores[user])
        for place in range(found, k):
            items[user, place], scores[user, place] = -1, -np.inf
