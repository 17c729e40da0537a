"""The interface that evaluation, gate, averaging and serving know; every learner fulfils it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from metarec_core.episodes.types import Support, TaskData
from metarec_core.section import Section


@dataclass(frozen=True, slots=True)
class Shares:
    """Additive parts of list scores; they sum to the score.

    Attributes:
        item: What the item brings to everyone, ``[B, K]``.
        prior: What the user's prior brings, ``[B, K]``.
        support: What each support interaction brings, ``[B, K, S]``; 0 at padding.
        beyond: What has no exact reason, as members of an average that are not linear,
            ``[B, K]``; None where there is no such part.
    """

    item: Tensor
    prior: Tensor
    support: Tensor
    beyond: Tensor | None = None

    def total(self) -> Tensor:
        """The score the parts sum to, ``[B, K]``."""
        linear = self.item + self.prior + self.support.sum(dim=-1)
        return linear if self.beyond is None else linear + self.beyond


class Predictor(Protocol):
    """A learner that has seen a batch of supports."""

    def scores(self, items: Tensor | None = None) -> Tensor:
        """List scores: higher ranks first.

        Args:
            items: Catalogue indices ``[B, K]``; None for the whole catalogue.

        Returns:
            ``[B, K]``, or ``[B, I]`` for the whole catalogue.
        """
        ...

    def mean_var(self, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Predicted value of an interaction and its *predictive* variance (noise included).

        Args:
            items: Catalogue indices ``[B, K]``; None for the whole catalogue.

        Returns:
            Two tensors of shape ``[B, K]`` or ``[B, I]``; NaN from a learner that predicts no
            value.
        """
        ...


@runtime_checkable
class LinearPredictor(Predictor, Protocol):
    """A predictor whose list score is linear in the support: its reasons are exact."""

    def shares(self, items: Tensor) -> Shares:
        """Split the scores of ``items`` (``[B, K]``) into their additive shares."""
        ...


@runtime_checkable
class GaussianPredictor(Predictor, Protocol):
    """A predictor that is Gaussian in item space; linear in the support or not.

    Attributes:
        mean: Posterior mean of the preference, ``[B, d]``.
        covariance: Its covariance, ``[B, d, d]``; ``sqrt(v' covariance v)`` is the sd of the
            *preference*, without noise.
    """

    mean: Tensor
    covariance: Tensor


@runtime_checkable
class CrossValidated(Predictor, Protocol):
    """A predictor that says how well it forecasts the values of the support itself."""

    def left_out(self) -> Tensor:
        """Squared error of each support value, forecast from the others, by its variance.

        Returns:
            ``[B, S]``, 1 on average where the model is true; 0 at padding.
        """
        ...


@dataclass(frozen=True, slots=True)
class FitContext:
    """What a learner is given beside data.

    Attributes:
        seed: Seed of every random choice; a learner makes its own generators from it.
        device: Where tensors live.
        max_support: Largest support set sampled in training.
        max_query: Largest query set sampled in training.
        work: Directory for checkpoints that survive a kill; None for none.
        settings: Settings of other learners, by name, for one that is made of them.
        fitted: Learners already fitted on the same tasks, by name; not to be fitted again.
        earlier: In a refit on more users, the learner as it was fitted where the validation users
            were held out: what it chose by them stands. None in a first fit.
        progress: Called with (step, of steps, metrics) as training goes on.
    """

    seed: int
    device: torch.device
    max_support: int = 64
    max_query: int = 64
    work: Path | None = None
    progress: Callable[[int, int, Mapping[str, float]], None] | None = None
    settings: Mapping[str, Section] = field(default_factory=dict)
    fitted: Mapping[str, Learner] = field(default_factory=dict)
    earlier: Learner | None = None


@dataclass(frozen=True, slots=True)
class FitReport:
    """What fitting did.

    Attributes:
        facts: Final numbers.
        curves: Values by epoch.
        chosen: Settings, as a tree, under which a second fit repeats what validation chose in
            this one (such as ``{"loop": {"epochs": 23, "keep": "last"}}``): for a refit on more
            data that has no validation of its own. Empty where nothing was chosen.
    """

    facts: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)
    chosen: Mapping[str, Any] = field(default_factory=dict)


class Learner(Protocol):
    """Anything with ``fit`` and ``adapt``.

    Attributes:
        name: Its name in the registry.
        Config: Its settings, a section of the tree.
    """

    name: ClassVar[str]
    Config: ClassVar[type[Section]]

    def __init__(self, config: Section) -> None: ...

    @property
    def config(self) -> Section:
        """The settings it was made with."""
        ...

    def fit(self, train: TaskData, validation: TaskData, context: FitContext) -> FitReport:
        """Learn from the tasks of ``train``; choose by those of ``validation``."""
        ...

    def adapt(self, support: Support) -> Predictor:
        """Learn a batch of users from their supports; no gradient is kept."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Everything that was learned, as named tensors on the CPU."""
        ...

    @classmethod
    def from_state(cls, config: Section, state: Mapping[str, Tensor], device: torch.device) -> Self:
        """The learner that :meth:`state` was taken from."""
        ...
