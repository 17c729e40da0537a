"""Methods that only protocols compare with: chance, means, recent counts, equal genres."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from metarec_core.episodes.types import FloatArray, Support, TaskData


class RowPredictor:
    """Given scores, and forecasts where there are some.

    Args:
        scores: ``[B, I]``.
        mean: Forecasts, ``[B, I]``; None for none.
        variance: Their predictive variance, a number.
    """

    def __init__(self, scores: Tensor, mean: Tensor | None = None, variance: float = 1.0) -> None:
        self._scores = scores
        self._mean = torch.full_like(scores, torch.nan) if mean is None else mean
        self._variance = variance

    def scores(self, items: Tensor | None = None) -> Tensor:
        """List scores, ``[B, K]`` or ``[B, I]``."""
        return self._scores if items is None else self._scores.gather(1, items)

    def mean_var(self, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Forecasts and their variance; NaN where nothing is forecast."""
        mean = self._mean if items is None else self._mean.gather(1, items)
        variance = torch.where(mean.isnan(), torch.nan, self._variance)
        return mean, variance


class Random:
    """An order of items by chance for every task: what no knowledge at all reaches."""

    name: ClassVar[str] = "random"

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._generator = torch.Generator()
        self._n_items = 0

    def fit(self, train: TaskData) -> None:
        """Note the size of the catalogue, and start the draws anew."""
        self._n_items = train.n_items
        self._generator = torch.Generator().manual_seed(self._seed)

    def adapt(self, support: Support) -> RowPredictor:
        """Draw scores: the same ones for the same batches in the same order."""
        drawn = torch.rand(len(support.items), self._n_items, generator=self._generator)
        return RowPredictor(drawn.to(support.items.device))


class ItemMean:
    """``rating(u, i) = mean of i's training ratings``, the global mean without any.

    The variance is that of training ratings around their items' means. Lists stand in the order
    of the forecast.
    """

    name: ClassVar[str] = "item_mean"

    def __init__(self) -> None:
        self._mean = torch.zeros(0)
        self._variance = 1.0

    def fit(self, train: TaskData) -> None:
        """Average the ratings of each item."""
        matrix = train.interactions
        values = matrix.values.astype(np.float64)
        counts = np.bincount(matrix.items, minlength=train.n_items)
        totals = np.bincount(matrix.items, weights=values, minlength=train.n_items)
        mean = np.where(counts > 0, totals / np.maximum(counts, 1), values.mean())
        self._mean = torch.from_numpy(mean)
        self._variance = float(((values - mean[matrix.items]) ** 2).mean())

    def adapt(self, support: Support) -> RowPredictor:
        """The support changes nothing."""
        row = self._mean.to(support.items.device).expand(len(support.items), -1)
        return RowPredictor(row, row, self._variance)


class GivenCounts:
    """``score(u, i) = log(1 + n_i)`` with counts that the protocol made, such as recent ones.

    Args:
        name: Name in tables.
        counts: ``[I]``.
    """

    def __init__(self, name: str, counts: FloatArray) -> None:
        self.name = name
        self._scores = torch.from_numpy(counts).log1p()

    def fit(self, train: TaskData) -> None:
        """Nothing to learn."""

    def adapt(self, support: Support) -> RowPredictor:
        """The support changes nothing."""
        return RowPredictor(self._scores.to(support.items.device).expand(len(support.items), -1))


class GenreCosine:
    """``score(u, i) = cos(g_u, g_i)``, ``g_u`` the sum of the genre vectors of the support.

    Args:
        genres: Multi-hot genres of the catalogue, ``[I, G]``.
    """

    name: ClassVar[str] = "genre_cosine"

    def __init__(self, genres: FloatArray) -> None:
        table = torch.from_numpy(genres)
        self._table = table / table.norm(dim=1, keepdim=True).clamp_min(1e-12)

    def fit(self, train: TaskData) -> None:
        """Nothing to learn."""

    def adapt(self, support: Support) -> RowPredictor:
        """Sum the genre vectors of what is known."""
        table = self._table.to(support.items.device)
        user = (table[support.items] * support.mask.unsqueeze(-1)).sum(dim=1)
        user = user / user.norm(dim=1, keepdim=True).clamp_min(1e-12)
        return RowPredictor(user @ table.mT)
