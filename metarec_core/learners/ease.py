"""EASE: a linear autoencoder over the catalogue, solved in one go."""

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


class EaseConfig(Section):
    """Linear item-to-item regression in closed form, plus popularity."""

    search: ClassVar[Mapping[str, Distribution]] = {
        "ridge": Uniform(30.0, 30_000.0, log=True),
        "popularity": Uniform(0.001, 1.0, log=True),
    }

    ridge: float = Field(3000.0, gt=0.0, le=1e9)
    """Penalty of squared weights: the more, the fewer users there are to learn from."""

    popularity: float = Field(0.01, ge=0.0, le=1000.0)
    """Weight of ``log(1 + n_i)`` in the score; it alone orders the list without a support."""

    max_items: int = Field(20_000, ge=1, le=1_000_000)
    """Largest catalogue; above it fitting is refused, since memory grows with its square."""


class Ease:
    """``score(i) = popularity log(1 + n_i) + sum_s vote_s W[s, i]``.

    ``W`` minimises ``|X - X W|^2 + ridge |W|^2`` with a diagonal of zeros, ``X`` the training
    users' votes ``[U, I]``: with ``P = (X'X + ridge I)^-1``, ``W[s, i] = -P[s, i] / P[i, i]``
    (Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data", equation 8). ``n_i`` is
    the number of training users with a relevant ``i``. Time grows with the cube of the catalogue
    and memory with its square (two ``[I, I]`` matrices in float64 while it is fitted, one in
    float32 after): a catalogue above ``max_items`` is refused
    (:class:`~metarec_core.errors.CatalogueTooLargeError`).
    """

    name: ClassVar[str] = "ease"
    reads_features: ClassVar[bool] = False
    Config: ClassVar[type[Section]] = EaseConfig

    def __init__(self, config: Section) -> None:
        assert isinstance(config, EaseConfig)
        self.config = config
        self.learned: ItemItem | None = None

    def fit(self, train: TaskData, validation: TaskData, context: FitContext) -> FitReport:
        """Invert the Gram matrix; nothing is chosen on ``validation``.

        Raises:
            CatalogueTooLargeError: If the catalogue is above ``max_items``.
        """
        check_item_cap(self.name, train.n_items, self.config.max_items)
        signal = Signal.of(train.scale)
        gram = co_votes(train, signal)
        gram[np.diag_indices_from(gram)] += self.config.ridge
        factor = torch.linalg.cholesky(torch.from_numpy(gram).to(context.device))
        del gram
        weights = torch.cholesky_inverse(factor)
        del factor
        weights /= -weights.diagonal().clone()
        weights.fill_diagonal_(0.0)
        appeal = (self.config.popularity * log_popularity(train)).to(context.device)
        self.learned = ItemItem(weights.float().contiguous(), appeal, signal)
        return FitReport(facts={"weight_norm": float(weights.norm())})

    def adapt(self, support: Support) -> ItemItemPredictor:
        """Regress every item on the support."""
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
