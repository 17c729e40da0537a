"""iALS: implicit matrix factorisation whose users are folded in in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from metarec_core.episodes.types import Support, TaskData
from metarec_core.learners.als import Entries, ImplicitProblem, implicit_als
from metarec_core.learners.base import FitContext, FitReport, ItemFactors, Shares
from metarec_core.learners.leave_out import LeaveOut
from metarec_core.learners.posterior import Posterior
from metarec_core.learners.signal import Signal, log_popularity
from metarec_core.search import Distribution, Integer, Uniform
from metarec_core.section import Section
from metarec_core.training.determinism import deterministic


class IalsConfig(Section):
    """Implicit matrix factorisation with closed-form fold-in, plus popularity."""

    search: ClassVar[Mapping[str, Distribution]] = {
        "dim": Integer(16, 256, log=True),
        "reg": Uniform(0.001, 0.1, log=True),
        "unobserved": Uniform(0.01, 1.0, log=True),
        "nu": Uniform(0.0, 1.0),
        "popularity": Uniform(0.001, 1.0, log=True),
    }

    dim: int = Field(64, ge=1, le=1024)
    """Dimensions of the item vectors."""

    reg: float = Field(0.025, gt=0.0, le=1e6)
    """Penalty of squared vectors."""

    unobserved: float = Field(0.1, ge=0.0, le=100.0)
    """Weight of a pair that was not observed, where one that was has the weight of its vote."""

    nu: float = Field(1.0, ge=0.0, le=2.0)
    """How much the penalty grows with the votes of a user or item; 0 for not at all."""

    sweeps: int = Field(8, ge=1, le=1000)
    """Turns of users and items."""

    popularity: float = Field(0.04, ge=0.0, le=1000.0)
    """Weight of ``log(1 + n_i)`` in the score; it alone orders the list without a support."""


class Ials:
    """``score(i) = popularity log(1 + n_i) + v_i'w``, ``w = A^-1 sum_s vote_s v_s``.

    ``A = unobserved V'V + ridge + sum_s vote_s v_s v_s'``, ``ridge = reg (n + unobserved I)^nu``
    with ``n`` the user's votes: the same regression that training solves for its own users
    (:class:`~metarec_core.learners.als.ImplicitProblem`), so a new user needs no training.
    ``V`` is ``[I, d]``; ``n_i`` the number of training users with a relevant ``i``. The score is
    a sum over the support (``A`` held fixed), so its shares are exact. Nothing of users x items
    is held; inference is in float64.
    """

    name: ClassVar[str] = "ials"
    reads_features: ClassVar[bool] = False
    Config: ClassVar[type[Section]] = IalsConfig

    def __init__(self, config: Section) -> None:
        assert isinstance(config, IalsConfig)
        self.config = config
        self.problem = ImplicitProblem(config.unobserved, config.reg, config.nu)
        self.signal = Signal(explicit=True, relevant_from=0.0)
        self.vectors = torch.zeros(0, config.dim)
        self.appeal = torch.zeros(0)
        self._wide = torch.zeros(0)
        self._base = torch.zeros(0)
        self._n_met = 0

    def fit(self, train: TaskData, validation: TaskData, context: FitContext) -> FitReport:
        """Alternate a fixed number of times; nothing is chosen on ``validation``."""
        self.signal = Signal.of(train.scale)
        moves: list[float] = []

        def after_sweep(sweep: int, moved: float) -> None:
            moves.append(moved)
            if context.progress is not None:
                context.progress(sweep, self.config.sweeps, {"moved": moved})

        with deterministic(context.device):
            vectors = implicit_als(
                *_votes(train, self.signal, context.device),
                self.problem,
                dim=self.config.dim,
                sweeps=self.config.sweeps,
                generator=torch.Generator().manual_seed(context.seed),
                after_sweep=after_sweep,
            )
        appeal = self.config.popularity * log_popularity(train)
        self._keep(vectors.float(), appeal.to(context.device))
        return FitReport(facts={"moved": moves[-1]}, curves={"moved": moves})

    def _keep(self, vectors: Tensor, appeal: Tensor) -> None:
        self.vectors, self.appeal = vectors, appeal
        self._wide = vectors.double()
        self._base = self.problem.base(self._wide)
        self._n_met = int((vectors != 0).any(dim=1).sum())

    def adapt(self, support: Support) -> IalsPredictor:
        """Solve each user's regression on the support's item vectors."""
        votes = self.signal.votes(support.values, support.mask).double()
        ridge = self.problem.ridge((votes > 0).sum(dim=1).double(), self._n_met)
        eye = torch.eye(self.config.dim, dtype=torch.float64, device=votes.device)
        features = self._wide[support.items]
        posterior = Posterior.of(
            features,
            torch.ones_like(votes),
            votes,
            support.mask,
            features.new_zeros(len(votes), self.config.dim),
            self._base + ridge[:, None, None] * eye,
        )
        others = LeaveOut(self.adapt, support)
        return IalsPredictor(self._wide, self.appeal.double(), posterior, others)

    def item_factors(self) -> ItemFactors:
        """Item vectors, and popularity."""
        return ItemFactors(self._wide, self.appeal.double())

    def state(self) -> dict[str, Tensor]:
        """``vectors`` ``[I, d]``, ``appeal`` ``[I]``, and how values become votes."""
        return {
            "vectors": self.vectors.cpu(),
            "appeal": self.appeal.cpu(),
            **self.signal.state(),
        }

    @classmethod
    def from_state(cls, config: Section, state: Mapping[str, Tensor], device: torch.device) -> Self:
        """The learner that :meth:`state` was taken from."""
        learner = cls(config)
        learner.signal = Signal.from_state(state)
        learner._keep(state["vectors"].to(device), state["appeal"].to(device))
        return learner


class IalsPredictor:
    """Lists of ``B`` users, folded in."""

    def __init__(
        self, vectors: Tensor, appeal: Tensor, posterior: Posterior, others: LeaveOut
    ) -> None:
        self._vectors, self._appeal, self._posterior = vectors, appeal, posterior
        self._others = others

    @property
    def query(self) -> Tensor:
        """The user's vector, ``[B, d]``."""
        return self._posterior.mean

    def scores(self, items: Tensor | None = None) -> Tensor:
        """List scores, ``[B, K]`` or ``[B, I]``."""
        users = self._posterior.mean
        if items is None:
            return self._appeal + users @ self._vectors.mT
        return self._appeal[items] + (self._vectors[items] @ users.unsqueeze(-1)).squeeze(-1)

    def mean_var(self, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """NaN: choices are ordered, no value is predicted."""
        n_users = len(self._posterior.mean)
        shape = items.shape if items is not None else (n_users, len(self._appeal))
        unknown = self._appeal.new_full(shape, torch.nan)
        return unknown, unknown

    def shares(self, items: Tensor) -> Shares:
        """Popularity is the item's; each vote pulls the user's vector."""
        prior, support = self._posterior.shares(self._vectors[items])
        return Shares(item=self._appeal[items], prior=prior, support=support)

    def without(self, items: Tensor | None, entries: Tensor) -> Tensor:
        """Scores without each of some support entries, ``[B, K, N]``; solved again.

        The penalty depends on the number of votes, so that no update of rank one is exact.
        """
        return self._others.without(self.scores(items), items, entries)


def _votes(data: TaskData, signal: Signal, device: torch.device) -> tuple[Entries, Entries]:
    """The votes by user and by item."""
    matrix = data.interactions
    votes = signal.votes_of(matrix.values).astype(np.float64)
    voted = votes > 0
    users = np.repeat(np.arange(matrix.n_users), matrix.counts())[voted]
    items, weights = matrix.items[voted], votes[voted]
    targets = np.ones_like(weights)
    return (
        Entries.of(users, items, weights, targets, matrix.n_users, device),
        Entries.of(items, users, weights, targets, data.n_items, device),
    )
