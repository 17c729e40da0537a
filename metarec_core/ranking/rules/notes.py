"""What rules did to a list, in the words of the column ``rule_flags``."""

from __future__ import annotations

import numpy as np
import polars as pl

from metarec_core.episodes.types import IntArray
from metarec_core.ranking.rules.assemble import Assembled
from metarec_core.ranking.rules.compiled import CompiledRules

_TEXTS = pl.List(pl.String())


def rule_flags(assembled: Assembled, compiled: CompiledRules, users: IntArray) -> pl.Series:
    """Flags of each entry, in the order of lists and ranks.

    ``pinned``: a pin holds the rank. ``quota:X``: the entry is there because the list would
    otherwise hold too few of category X. ``after_cap:X``: candidates that stood before it were
    left out as the list had enough of X, so that it moved up. The last entry of a list also has
    its :func:`list_notes`.

    Args:
        assembled: Lists.
        compiled: The rules.
        users: Rows of the users, ``[B]``.

    Returns:
        ``[number of entries]`` lists of strings, none of them null.
    """
    rows, ranks = np.nonzero(assembled.items >= 0)
    codes = pl.DataFrame(
        {
            "pinned": assembled.pinned[rows, ranks],
            "quota": assembled.quota_bits[rows, ranks],
            "cap": assembled.cap_bits[rows, ranks],
        }
    )
    named = compiled.categories.named
    distinct = codes.unique().sort(codes.columns)
    texts = [
        ["pinned"] * pinned
        + [f"quota:{name}" for name in named(quota)]
        + [f"after_cap:{name}" for name in named(cap)]
        for pinned, quota, cap in distinct.iter_rows()
    ]
    distinct = distinct.with_columns(flags=pl.Series(texts, dtype=_TEXTS))
    flagged = codes.join(distinct, on=codes.columns, how="left", maintain_order="left")
    last = ranks + 1 == assembled.sizes[rows]
    notes = list_notes(assembled, compiled, users).gather(rows)
    return flagged.select(
        flags=pl.when(pl.Series(last))
        .then(pl.concat_list("flags", notes))
        .otherwise(pl.col("flags"))
    ).to_series()


def list_notes(assembled: Assembled, compiled: CompiledRules, users: IntArray) -> pl.Series:
    """Why a list is shorter than asked, and which quotas it does not meet.

    Args:
        assembled: Lists.
        compiled: The rules.
        users: Rows of the users, ``[B]``.

    Returns:
        ``[B]`` lists of strings, none of them null, such as ``short: only 4 open items``,
        ``short: 3 of 10, caps leave out all others`` and ``quota unmet: Documentary 0 of 1``.
    """
    asked = np.flatnonzero((assembled.sizes < compiled.k) | (assembled.lacking != 0))
    rules = compiled.categories
    listed = assembled.items[asked]
    named = {
        str(place): ((rules.of(place)[listed] & (listed >= 0)).sum(axis=1))
        for place in np.flatnonzero(rules.quotas).tolist()
    }
    facts = pl.DataFrame(
        {
            "size": assembled.sizes[asked],
            "open": compiled.open_counts(users[asked]),
            "shut": compiled.mask_sizes[compiled.mask_of_user[users[asked]]] == 0,
            "capped": assembled.capped[asked],
            **named,
        }
    )
    # Lists are many, the ways in which they fall short are few.
    distinct = facts.unique().sort(facts.columns)
    texts = [_notes(row, compiled) for row in distinct.iter_rows(named=True)]
    distinct = distinct.with_columns(notes=pl.Series(texts, dtype=_TEXTS))
    told = facts.join(distinct, on=facts.columns, how="left", maintain_order="left")["notes"]
    place = np.full(len(users), len(told), dtype=np.int64)
    place[asked] = np.arange(len(told))
    return pl.concat([told, pl.Series("notes", [[]], dtype=_TEXTS)]).gather(place)


def _notes(facts: dict[str, int], compiled: CompiledRules) -> list[str]:
    rules, texts = compiled.categories, []
    if facts["size"] < compiled.k:
        texts.append(_short(facts, compiled.k))
    for place in np.flatnonzero(rules.quotas).tolist():
        held, quota = facts[str(place)], rules.quotas[place]
        if held < quota:
            texts.append(f"quota unmet: {rules.names[place]} {held} of {quota}")
    return texts


def _short(facts: dict[str, int], k: int) -> str:
    size, n_open, capped = facts["size"], facts["open"], facts["capped"]
    if n_open == 0:
        if facts["shut"]:
            return "short: no open item, as allow lists and deny rules leave none"
        return "short: no open item, as all are consumed or denied to the user"
    if size >= n_open:
        return f"short: only {n_open} open item{'s' if n_open > 1 else ''}"
    if capped:
        return f"short: {size} of {k}, caps leave out all others"
    return f"short: {size} of {k}, the pool held no more"
