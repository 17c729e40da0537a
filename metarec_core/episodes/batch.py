"""A batch of tasks that are judged: what is known, what is asked, and what competes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from metarec_core.episodes.types import Episode, IntArray


@dataclass(frozen=True, slots=True)
class EvaluationBatch:
    """Tasks, and all that their rankings are judged by.

    Attributes:
        users: Row of each task's user in the data, ``[B]``.
        support_size: Support size of each task, ``[B]``.
        episode: The tasks.
        targets: Which query entries a ranking should hold first, ``[B, Q]`` bool.
        excluded: Items that do not compete, ``[B, I]`` bool. None: the query items alone
            compete, in the order of their forecasts (or list scores, where there is none).
        tie_seed: Equal scores are ordered by chance, another one for each user, from this seed;
            None for the order of the catalogue.
    """

    users: IntArray
    support_size: IntArray
    episode: Episode
    targets: Tensor
    excluded: Tensor | None
    tie_seed: int | None = None


class JudgedTasks(Protocol):
    """Tasks that ``evaluate`` takes."""

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        ...

    def __len__(self) -> int: ...

    def batches(self, size: int) -> Iterator[EvaluationBatch]:
        """All tasks, at most ``size`` at once."""
        ...
