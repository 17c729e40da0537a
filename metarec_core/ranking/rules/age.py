"""The least age of a candidate."""

from __future__ import annotations

import numpy as np

from metarec_core.episodes.types import IntArray, InteractionMatrix
from metarec_core.errors import ConfigError
from metarec_core.ranking.rules.closed import SECONDS_A_DAY
from metarec_core.ranking.rules.items import UNKNOWN_TIME, BoolArray, ItemFacts
from metarec_core.ranking.rules.load import Rules


def old_enough(
    rules: Rules, facts: ItemFacts, histories: InteractionMatrix, n_items: int, now: int
) -> BoolArray:
    """Which items have been known for at least ``min_age_days``, ``[I]``.

    Args:
        rules: The rules.
        facts: Since when items are known, if that is not to be taken from ``histories``.
        histories: Interactions of all users.
        n_items: Size of the catalogue.
        now: 00:00 UTC of the run date, seconds since 1970.

    Raises:
        ConfigError: If the age is to be taken from interactions without times.
    """
    document = rules.document
    if document.min_age_days is None:
        return np.ones(n_items, dtype=np.bool_)
    since = facts.known_since
    if document.age_from is not None and since is None:
        raise ValueError("rules take ages from a feature: pass item_facts(rules, items, catalogue)")
    if since is None:
        since = _first_interactions(rules, histories, n_items)
    known = since != UNKNOWN_TIME
    old = since <= now - document.min_age_days * SECONDS_A_DAY
    result: BoolArray = np.where(known, old, document.unknown_age == "open")
    return result


def _first_interactions(rules: Rules, histories: InteractionMatrix, n_items: int) -> IntArray:
    if histories.times is None and len(histories.items):
        raise ConfigError(
            f"{rules.name}, setting min_age_days",
            found="interactions without times",
            wanted="a time of every interaction, or an item feature in age_from",
            next_step="name the column of times in the dataset's descriptor, or an item feature "
            "that holds seconds since 1970",
        )
    never = np.iinfo(np.int64).max
    first = np.full(n_items, never, dtype=np.int64)
    if histories.times is not None:
        np.minimum.at(first, histories.items, histories.times)
    first[first == never] = UNKNOWN_TIME
    return first
