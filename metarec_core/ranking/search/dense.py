"""Search by plain float32 products: on a GPU, and where integer products are not exact."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from metarec_core.episodes.types import IntArray
from metarec_core.ranking.search.closed import Closed
from metarec_core.ranking.search.scores import BoolArray, DoubleArray, exact_scores, exhaustive
from metarec_core.ranking.search.wide import Sizes, norms

_CELLS = {"cpu": 1 << 22, "cuda": 1 << 28}
"""Scores held at once, by kind of device."""

_SPARE = 32
"""Candidates beyond ``k`` whose exact scores are asked for."""

_EPSILON = 2.0**-24

_NORMAL = 2.0**-126
"""Below it float32 loses digits, or all of them."""


class DenseSearch:
    """Search of all items by float32 scores whose error is bounded.

    A float32 sum of ``d`` products errs by at most ``(d + 3) 2**-24`` times the sizes of what is
    summed (Higham 2002, "Accuracy and Stability of Numerical Algorithms", section 3.1), and by
    ``2**-126`` times the other factor for each number that is too small for it.

    Args:
        vectors: Of the whole catalogue, ``[I, d]``, padded, on the device of the search. Norms,
            appeals and scores are at most :data:`~metarec_core.ranking.search.wide.MOST`.
        appeal: ``[I]``.
        open_items: ``[I]``.
    """

    def __init__(self, vectors: Tensor, appeal: DoubleArray, open_items: BoolArray) -> None:
        self._device = vectors.device
        self._vectors = vectors
        self._appeal = torch.from_numpy(appeal).to(self._device)
        ids = np.flatnonzero(open_items)
        self._open = torch.from_numpy(ids).to(self._device)
        self._place = torch.full((len(open_items),), -1, dtype=torch.int64, device=self._device)
        self._place[self._open] = torch.arange(len(ids), device=self._device)
        self._single = vectors[self._open].float()
        self._single_appeal = self._appeal[self._open].float()
        self._sizes = Sizes.of(norms(vectors).cpu().numpy(), appeal, open_items)

    def search(
        self, queries: Tensor, k: int, closed: Closed, step: float, threads: int
    ) -> tuple[IntArray, DoubleArray]:
        """The best of each query; see :meth:`FactorIndex.search`."""
        n_users = len(queries)
        items = np.empty((n_users, k), dtype=np.int64)
        scores = np.empty((n_users, k))
        rows = max(1, _CELLS[self._device.type] // max(1, len(self._open)))
        for start in range(0, n_users, rows):
            stop = min(start + rows, n_users)
            part = closed.rows(start, stop)
            found, values, unsure = self._tile(queries[start:stop].to(self._device), k, part, step)
            items[start:stop], scores[start:stop] = found, values
            if len(unsure):
                exhaustive(
                    unsure,
                    queries[start:stop].cpu().numpy(),
                    self._vectors.cpu().numpy(),
                    self._appeal.cpu().numpy(),
                    self._open.cpu().numpy(),
                    part.indptr,
                    part.items,
                    1.0 / step if step else 0.0,
                    items[start:stop],
                    scores[start:stop],
                )
        return items, scores

    def _tile(
        self, queries: Tensor, k: int, closed: Closed, step: float
    ) -> tuple[IntArray, DoubleArray, IntArray]:
        """Items, scores, and the rows where more candidates may count than were asked."""
        single = _product(queries.float(), self._single.mT) + self._single_appeal
        shut = self._place[torch.from_numpy(closed.items).to(self._device)]
        rows = torch.from_numpy(np.repeat(np.arange(len(queries)), np.diff(closed.indptr)))
        rows = rows.to(self._device)
        single[rows[shut >= 0], shut[shut >= 0]] = -torch.inf
        asked = min(k + _SPARE, single.shape[1])
        best = single.topk(asked, dim=1)
        norm = queries.norm(dim=1)
        size = norm * self._sizes.norm + self._sizes.appeal
        lost = 2.0 * _NORMAL * (norm + self._sizes.norm + 1.0)
        margin = (queries.shape[1] + 3) * (_EPSILON * size + lost)
        kth = best.values[:, min(k, asked) - 1].double()
        # With all items asked for none is left over.
        left = (
            best.values[:, -1].double()
            if asked < single.shape[1]
            else torch.full_like(kth, -torch.inf)
        )
        unsure = (left > -torch.inf) & (left + margin + step >= kth - margin)
        chosen = self._open[best.indices]
        exact = exact_scores(queries, self._vectors, self._appeal, chosen)
        if step:
            # As the exhaustive search rounds, whatever the step.
            exact = (exact * (1.0 / step)).round() / (1.0 / step)
        exact = exact.masked_fill(best.values == -torch.inf, -torch.inf)
        # Equal scores by catalogue index: first sort by index, then by score, stably.
        chosen, by_index = chosen.sort(dim=1)
        exact, by_score = exact.gather(1, by_index).sort(dim=1, descending=True, stable=True)
        chosen = chosen.gather(1, by_score)[:, :k]
        exact = exact[:, :k]
        chosen = chosen.masked_fill(exact == -torch.inf, -1)
        return (
            chosen.cpu().numpy(),
            exact.cpu().numpy(),
            unsure.nonzero().squeeze(1).cpu().numpy(),
        )


def _product(left: Tensor, right: Tensor) -> Tensor:
    """In full float32: the bound of the error does not hold for tensor cores' shorter mantissas."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        return left @ right
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
