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
    """A predictor that splits its list scores: exactly, as far as they are linear in the support.

    What is not linear in the support is the share ``beyond``.
    """

    def shares(self, items: Tensor) -> Shares:
        """Split the scores of ``items`` (``[B, K]``) into their additive shares."""
        ...


@runtime_checkable
class Counterfactual(Predictor, Protocol):
    """A predictor that knows its scores as they would be without one interaction."""

    def without(self, items: Tensor | None, entries: Tensor) -> Tensor:
        """List scores as learned from the support without each of some entries.

        What is asked is what adapting to the smaller support would give, not an approximation.

        Args:
            items: Catalogue indices ``[B, K]``; None for the whole catalogue.
            entries: Positions in the support, ``[B, N]``; -1, or padding, leaves nothing out.

        Returns:
            ``[B, K, N]`` or ``[B, I, N]`` float64.
        """
        ...


@runtime_checkable
class Deletions(Predictor, Protocol):
    """A predictor part of whose score is not linear in the support: it is asked again without."""

    def hints(self, items: Tensor) -> Tensor:
        """Roughly how much each support entry matters for ``items``, to choose what to ask for.

        Args:
            items: Catalogue indices ``[B, K]``.

        Returns:
            ``[B, S]``, not negative; 0 at padding.
        """
        ...

    def deletions(self, items: Tensor, entries: Tensor) -> Tensor:
        """What the part that is not linear loses without each of some entries.

        Deletion-based attribution (leave-one-out, as in Covert, Lundberg and Lee 2021, "Explaining
        by Removing"). Unlike :class:`Shares` they need not sum to anything.

        Args:
            items: Catalogue indices ``[B, K]``.
            entries: Positions in the support, ``[B, N]``; -1, or padding, leaves nothing out.

        Returns:
            ``[B, K, N]`` float64.
        """
        ...


@runtime_checkable
class FeatureShares(Predictor, Protocol):
    """A predictor whose score is linear in the content of an item, its preference held fixed."""

    def feature_shares(self, items: Tensor) -> Tensor:
        """What each encoded column of an item's content adds to its score.

        Args:
            items: Catalogue indices ``[B, K]``.

        Returns:
            ``[B, K, Fi]`` float64; ``Fi`` is 0 where content does not count.
        """
        ...


@runtime_checkable
class UncertainContrasts(Predictor, Protocol):
    """A predictor that knows how unsure it is of one group of items against all."""

    def contrast_variance(self, groups: Tensor) -> Tensor:
        """Variance, under the preference, of groups' mean scores less that of the catalogue.

        Args:
            groups: ``[G, I]`` float64, sparse or not; each row holds the weights of a mean.

        Returns:
            ``[B, G]`` float64; NaN for users of whom that is not known.
        """
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


@dataclass(frozen=True, slots=True)
class ItemFactors:
    """The item side of list scores that are products, the same for every user.

    Attributes:
        vectors: ``[I, d]`` float64.
        appeal: What an item is given whoever asks, ``[I]`` float64.
    """

    vectors: Tensor
    appeal: Tensor


@runtime_checkable
class FactorLearner(Protocol):
    """A learner whose predictors are all :class:`FactorPredictor` over the same items."""

    def item_factors(self) -> ItemFactors:
        """The vectors that every predictor's ``query`` is multiplied with."""
        ...


@runtime_checkable
class FactorPredictor(Predictor, Protocol):
    """A predictor with ``scores(items) = query @ vectors[items] + appeal[items]``.

    Attributes:
        query: ``[B, d]`` float64; the vectors are :meth:`FactorLearner.item_factors`.
    """

    query: Tensor


@runtime_checkable
class UncertainScores(Predictor, Protocol):
    """A predictor that knows how unsure its list scores are, and which err together."""

    def score_covariance(self, items: Tensor) -> Tensor:
        """Covariance of the list scores under the preference alone.

        Args:
            items: Catalogue indices ``[B, P]``.

        Returns:
            ``[B, P, P]`` float64, positive semidefinite.
        """
        ...


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
