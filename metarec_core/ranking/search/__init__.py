"""Exact maximum inner product search: the K best open items of each user, at less than a product.

Scores are products of a query and item vectors plus an item's appeal. What is returned is what
float64 scores of *all* items, summed in one fixed order (:mod:`.scores`), would give: the best
first, equal scores by catalogue index. It does not depend on tiles, threads or devices.

- :mod:`.index`: items prepared for search, and the search itself;
- :mod:`.blocks`: on a CPU, items in blocks of eight-bit integers with bounds;
- :mod:`.scan` and :mod:`.candidates`: what of a block may still be among the best;
- :mod:`.decide`: which of that is;
- :mod:`.tiles`: a CPU's search, tile by tile and thread by thread;
- :mod:`.dense`: on a GPU, and where eight-bit products are not exact, plain products;
- :mod:`.wide`: where float32 bounds do not hold the sizes, every item in float64;
- :mod:`.scores`: the scores that decide, and the search that reads every item.
"""

from metarec_core.ranking.search.closed import Closed
from metarec_core.ranking.search.index import FactorIndex, Found

__all__ = ["Closed", "FactorIndex", "Found"]
