"""Items of a learner prepared for search, once for all tiles and workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
from torch import Tensor

from metarec_core.learners.base import FactorLearner, Learner
from metarec_core.ranking.search import FactorIndex
from metarec_core.ranking.search.scores import BoolArray

WORTH_AN_INDEX = 4096
"""Items from which on a search is quicker than a product with all of them and its sorting."""

WORTH_PREPARING = 32
"""Users from whom on items are prepared that nobody prepared before."""

INDEX_BYTES = 256_000_000
"""Memory that prepared items may take where none is set."""


def worth_an_index(learner: Learner, n_items: int) -> bool:
    """Whether candidates are searched, rather than sorted out of all scores."""
    return isinstance(learner, FactorLearner) and n_items >= WORTH_AN_INDEX


@dataclass(slots=True)
class Indexes:
    """Items of one learner prepared for search, a set for each mask; made when first asked for.

    Attributes:
        learner: The learner.
        memory: Bytes that prepared sets may take beside the vectors, about; one there always is.
        made: By the bytes of the mask, the last asked ones last.
        asked: Users so far of masks, by their hashes, whose sets are not made yet.
        lock: Held while they change; several threads may share them.
    """

    learner: Learner
    memory: int = INDEX_BYTES
    made: dict[bytes, FactorIndex] = field(default_factory=dict)
    asked: Counter[int] = field(default_factory=Counter)
    lock: Lock = field(default_factory=Lock)
    _items: FactorIndex | None = None

    def get(self, open_items: BoolArray, queries: Tensor) -> FactorIndex:
        """The items that are open, ``[I]``, for ``queries`` ``[U, d]`` and others like them.

        Raises:
            ModelError: If the learner's vectors are not finite numbers.
        """
        key = np.packbits(open_items).tobytes()
        with self.lock:
            found = self.made.pop(key, None)
            if found is None:
                items = self._whole()
                self.asked[hash(key)] += len(queries)
                if self.asked[hash(key)] < WORTH_PREPARING:
                    return items.within(open_items, prepared=False)
                typical = float(queries.norm(dim=1).median())
                typical = typical if np.isfinite(typical) else 1.0
                found = items.within(open_items, typical_norm=typical)
            self.made[key] = found
            for oldest in list(self._beyond()):
                del self.made[oldest]
            return found

    def _whole(self) -> FactorIndex:
        if self._items is None:
            assert isinstance(self.learner, FactorLearner)
            factors = self.learner.item_factors()
            self._items = FactorIndex(factors.vectors, factors.appeal, prepared=False)
        return self._items

    def _beyond(self) -> Iterator[bytes]:
        """Sets that memory does not hold beside those that were asked for later."""
        held = 0
        for place, key in enumerate(reversed(self.made)):
            held += self.made[key].n_bytes
            if place and held > self.memory:
                yield key
