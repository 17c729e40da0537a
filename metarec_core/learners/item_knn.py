"""Item-kNN: items chosen by the same users are alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from metarec_core.episodes.types import Support, TaskData
from metarec_core.learners.base import FitContext, FitReport
from metarec_core.learners.item_item import ItemItem, ItemItemPredictor, check_item_cap, co_votes
from metarec_core.learners.signal import Signal, log_popularity
from metarec_core.search import Distribution, Uniform
from metarec_core.section import Section

_EPSILON = 1e-12


class ItemKnnConfig(Section):
    """Cosine similarity of items, shrunk, plus popularity."""

    search: ClassVar[Mapping[str, Distribution]] = {
        "shrinkage": Uniform(1.0, 1000.0, log=True),
        "popularity": Uniform(0.001, 1.0, log=True),
    }

    shrinkage: float = Field(10.0, ge=0.0, le=1e6)
    """Added to the product of norms: similarities that rest on few users count less."""

    popularity: float = Field(0.1, ge=0.0, le=1000.0)
    """Weight of ``log(1 + n_i)`` in the score; it alone orders the list without a support."""

    max_items: int = Field(20_000, ge=1, le=1_000_000)
    """Largest catalogue; above it fitting is refused, since memory grows with its square."""


class ItemKnn:
    """``score(i) = popularity log(1 + n_i) + sum_s vote_s cos(s, i)``.

    ``cos(s, i) = x_s'x_i / (|x_s| |x_i| + shrinkage)``, ``x_i`` the training users' votes for
    ``i``, ``[U]``, and ``cos(i, i) = 0``: item-based top-N recommendation (Deshpande and Karypis
    2004) with the shrunk cosine of Ferrari Dacrema et al. (2019), all neighbours kept. ``n_i`` is
    the number of training users with a relevant ``i``. The weights are ``[I, I]`` float32: a
    catalogue above ``max_items`` is refused (:class:`~metarec_core.errors.CatalogueTooLargeError`).
    """

    name: ClassVar[str] = "item_knn"
    reads_features: ClassVar[bool] = False
    Config: ClassVar[type[Section]] = ItemKnnConfig

    def __init__(self, config: Section) -> None:
        assert isinstance(config, ItemKnnConfig)
        self.config = config
        self.learned: ItemItem | None = None

    def fit(self, train: TaskData, validation: TaskData, context: FitContext) -> FitReport:
        """Count common users; nothing is chosen on ``validation``.

        Raises:
            CatalogueTooLargeError: If the catalogue is above ``max_items``.
        """
        check_item_cap(self.name, train.n_items, self.config.max_items)
        signal = Signal.of(train.scale)
        weights = co_votes(train, signal)
        norms = np.sqrt(np.diag(weights))
        # Row by row: a second matrix of this size would double what is held.
        for row, norm in zip(weights, norms, strict=True):
            row /= np.maximum(norm * norms + self.config.shrinkage, _EPSILON)  # noqa: PLW2901
        np.fill_diagonal(weights, 0.0)
        self.learned = ItemItem(
            torch.from_numpy(weights).float().to(context.device),
            (self.config.popularity * log_popularity(train)).to(context.device),
            signal,
        )
        return FitReport(facts={"pairs": float(np.count_nonzero(weights))})

    def adapt(self, support: Support) -> ItemItemPredictor:
        """Sum the support's similarities."""
        assert self.learned is not None
        return ItemItemPredictor(self.learned, support)

    def state(self) -> dict[str, Tensor]:
        """``weights`` ``[I, I]``, ``appeal`` ``[I]``, and how values become votes."""
        assert self.learned is not None
        return self.learned.state()

    @classmethod
    def from_state(cls, config: Section, state: Mapping[str, Tensor], device: torch.device) -> Self:
        """The learner that :meth:`state` was taken from."""
        learner = cls(config)
        learner.learned = ItemItem.from_state(state, device)
        return learner
