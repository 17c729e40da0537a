"""Caps and quotas of categories, with an item's categories as the bits of an integer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metarec_core.episodes.types import IntArray
from metarec_core.errors import ConfigError
from metarec_core.ingest.hints import did_you_mean, listing
from metarec_core.ranking.rules.items import BoolArray, ItemFacts
from metarec_core.ranking.rules.load import Rules


@dataclass(frozen=True, slots=True)
class CategoryRules:
    """Categories that have a cap or a quota.

    Attributes:
        names: ``R`` names, sorted.
        bits: Categories of each item, bit ``c`` for ``names[c]``, ``[I]`` int64.
        caps: Most entries of each, ``[R]`` int64; ``k`` where there is no cap.
        quotas: Fewest entries of each, ``[R]`` int64; 0 where there is no quota.
    """

    names: tuple[str, ...]
    bits: IntArray
    caps: IntArray
    quotas: IntArray

    @property
    def exclusive(self) -> bool:
        """Whether no item has two of the categories; then lists are the best that rules leave."""
        return bool((np.bitwise_count(self.bits) <= 1).all())

    @property
    def most_with_quota(self) -> int:
        """Most categories with a quota that any item has, at least 1."""
        with_quota = sum(1 << place for place in np.flatnonzero(self.quotas).tolist())
        return max(int(np.bitwise_count(self.bits & with_quota).max(initial=0)), 1)

    def of(self, category: int) -> BoolArray:
        """Which items have a category, ``[I]``."""
        result: BoolArray = (self.bits >> category) & 1 == 1
        return result

    def named(self, bits: int) -> list[str]:
        """Names of the categories whose bits are set."""
        return [name for place, name in enumerate(self.names) if bits >> place & 1]


def category_rules(rules: Rules, facts: ItemFacts, n_items: int, k: int) -> CategoryRules:
    """Caps and quotas of ``rules`` as arrays.

    Args:
        rules: The rules.
        facts: Categories of the items.
        n_items: Size of the catalogue.
        k: Most entries of a list.

    Raises:
        ConfigError: If no item has a category that is named, or quotas cannot fit into a list.
    """
    document = rules.document
    names = document.ruled
    known = facts.categories
    if names and known is None:
        raise ValueError("rules speak of categories: pass item_facts(rules, items, catalogue)")
    bits = np.zeros(n_items, dtype=np.int64)
    for place, name in enumerate(names):
        assert known is not None
        column = known.names.index(name) if name in known.names else -1
        if column < 0 or not known.matrix[:, column].any():
            setting = "quotas" if name in document.quotas else "caps"
            raise ConfigError(
                f"{rules.name}, setting {setting}.{name}",
                found=f"a category that no item has in {document.categories!r}",
                wanted=f"one of {listing(known.names, limit=50)}",
                next_step=f"{did_you_mean(name, known.names)}correct or remove it",
            )
        bits |= known.matrix[:, column].astype(np.int64) << place
    made = CategoryRules(
        names,
        bits,
        caps=np.array([min(document.caps.get(name, k), k) for name in names], dtype=np.int64),
        quotas=np.array([document.quotas.get(name, 0) for name in names], dtype=np.int64),
    )
    _check_room(made, rules, k)
    return made


def _check_room(categories: CategoryRules, rules: Rules, k: int) -> None:
    quotas, most = categories.quotas, categories.most_with_quota
    needed = max(int(quotas.max(initial=0)), -(-int(quotas.sum()) // most))
    if needed > k:
        named = zip(categories.names, quotas.tolist(), strict=True)
        raise ConfigError(
            f"{rules.name}, setting quotas",
            found=", ".join(f"{name}: {quota}" for name, quota in named if quota),
            wanted=f"quotas that fit into a list of {k}; these need {needed} places",
            next_step="lower quotas, or ask for longer lists (recommend.k)",
        )
