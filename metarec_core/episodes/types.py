"""Arrays that tasks are made of: sparse interactions, supports and queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from metarec_core.schema import Feedback

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ValueScale:
    """What the values of interactions mean.

    Attributes:
        feedback: Explicit ratings or implicit event weights.
        minimum: Smallest legal value.
        maximum: Largest legal value.
        relevant_from: Values from here on count as relevant (positives of ranking metrics).
    """

    feedback: Feedback
    minimum: float
    maximum: float
    relevant_from: float

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ValueScale:
        """The scale that ``dataclasses.asdict`` and a trip through JSON made plain."""
        return cls(**{**values, "feedback": Feedback(values["feedback"])})


@dataclass(frozen=True, slots=True)
class InteractionMatrix:
    """Interactions in CSR form, one row a user, sorted by item within a row.

    Attributes:
        indptr: Row boundaries, ``[U + 1]``.
        items: Catalogue index of each interaction, ``[N]``.
        values: Rating or event weight, ``[N]``.
        times: When each took place, in seconds since 1970, ``[N]``; None where that is not known.
    """

    indptr: IntArray
    items: IntArray
    values: FloatArray
    times: IntArray | None = None

    @property
    def n_users(self) -> int:
        """Number of rows."""
        return len(self.indptr) - 1

    @property
    def newest(self) -> int | None:
        """When the last interaction took place; None where that is not known."""
        return None if self.times is None or not len(self.times) else int(self.times.max())

    def counts(self) -> IntArray:
        """Interactions of each user, ``[U]``."""
        return np.diff(self.indptr)

    def entries(self, users: IntArray) -> tuple[IntArray, IntArray]:
        """Positions of the interactions of ``users``.

        Args:
            users: Row indices, ``[B]``.

        Returns:
            ``rows`` (0..B-1 of each entry) and ``positions`` in ``items``/``values``, both
            ``[sum of counts]``, in the order of ``users``.
        """
        counts = self.indptr[users + 1] - self.indptr[users]
        rows = np.repeat(np.arange(len(users)), counts)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        return rows, np.repeat(self.indptr[users], counts) + within

    def select(self, users: IntArray) -> InteractionMatrix:
        """The rows of ``users``, in that order, as a matrix of its own."""
        _, positions = self.entries(users)
        counts = self.indptr[users + 1] - self.indptr[users]
        return InteractionMatrix(
            indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            items=self.items[positions],
            values=self.values[positions],
            times=None if self.times is None else self.times[positions],
        )


@dataclass(frozen=True, slots=True)
class TaskData:
    """All tasks of a dataset, or a part of them.

    Attributes:
        interactions: One row a user.
        user_features: Encoded features, ``[U, Fu]`` float32; ``Fu`` may be 0.
        item_features: Encoded content, ``[I, Fi]`` float32; ``Fi`` may be 0.
        scale: What values mean.
        by_time: Whether supports lie before queries in time, as when the future is forecast; else
            a user's interactions are cut in random order.
    """

    interactions: InteractionMatrix
    user_features: FloatArray
    item_features: FloatArray
    scale: ValueScale
    by_time: bool = False

    @property
    def n_users(self) -> int:
        """Number of users."""
        return self.interactions.n_users

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return len(self.item_features)

    def select(self, users: IntArray) -> TaskData:
        """The same catalogue with only ``users``, in that order."""
        return replace(
            self,
            interactions=self.interactions.select(users),
            user_features=self.user_features[users],
        )


@dataclass(frozen=True, slots=True)
class Support:
    """What is known of a batch of users: padded tensors, on one device.

    Attributes:
        items: Catalogue indices, ``[B, S]`` int64; padding holds 0.
        values: Ratings or weights, ``[B, S]`` float32; padding holds 0.
        mask: True where an entry is real, ``[B, S]`` bool.
        user_features: ``[B, Fu]`` float32.
    """

    items: Tensor
    values: Tensor
    mask: Tensor
    user_features: Tensor

    @property
    def sizes(self) -> Tensor:
        """Support size of each user, ``[B]`` int64."""
        return self.mask.sum(dim=1)

    def to(self, device: torch.device) -> Support:
        """The same on another device."""
        return Support(
            self.items.to(device),
            self.values.to(device),
            self.mask.to(device),
            self.user_features.to(device),
        )


@dataclass(frozen=True, slots=True)
class Episode:
    """A batch of tasks: what is known, and what is to be predicted.

    Attributes:
        users: Row of each task's user in the data, ``[B]`` int64.
        support: What is known.
        items: Query items, ``[B, Q]`` int64; padding holds 0. Disjoint from the support.
        values: Query values, ``[B, Q]`` float32.
        mask: True where a query entry is real, ``[B, Q]`` bool.
    """

    users: Tensor
    support: Support
    items: Tensor
    values: Tensor
    mask: Tensor

    def to(self, device: torch.device) -> Episode:
        """The same on another device."""
        return Episode(
            self.users.to(device),
            self.support.to(device),
            self.items.to(device),
            self.values.to(device),
            self.mask.to(device),
        )
