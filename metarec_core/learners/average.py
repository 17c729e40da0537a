"""An average over learners whose weights depend on what is known of a user."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from metarec_core.episodes.types import Support, TaskData
from metarec_core.errors import CatalogueTooLargeError, ModelError
from metarec_core.learners.average_held_out import HeldOut
from metarec_core.learners.average_predictor import AveragePredictor, UncertainAveragePredictor
from metarec_core.learners.average_weights import (
    KNOTS,
    ListWeights,
    ValueWeights,
    fit_list_weights,
    fit_value_weights,
)
from metarec_core.learners.base import FitContext, FitReport, Learner, UncertainScores
from metarec_core.learners.leave_out import LeaveOut
from metarec_core.learners.modes import Mode, in_mode
from metarec_core.schema import Feedback
from metarec_core.search import Distribution, Integer, Uniform
from metarec_core.section import Section

logger = logging.getLogger(__name__)

_TOLD = (0, 5, 20)
"""Support sizes whose weights are reported."""

_SEED_STEP = 1009
"""Between the seeds of two copies of a member."""


class AverageConfig(Section):
    """An average over learners, its weights learned on held-out tasks."""

    search: ClassVar[Mapping[str, Distribution]] = {
        "top": Integer(5, 500, log=True),
        "smoothing": Uniform(0.1, 100.0, log=True),
    }

    members: tuple[str, ...] = Field(
        (
            "popularity",
            "trending",
            "bias",
            "item_knn",
            "ease",
            "ials",
            "blr",
            "gaussian",
            "amortised",
        ),
        min_length=1,
        max_length=32,
    )
    """Learners to average, by name, with the settings of their own sections. A name that comes
    again is another copy, trained from a seed of its own. One that the catalogue is too large for
    drops out."""

    shuffles: int = Field(3, ge=1, le=100)
    """Ways in which each validation user's interactions are cut into support and query."""

    candidates: int = Field(512, ge=20, le=100_000)
    """Items of each held-out task that list weights are learned on: all that may reach the top."""

    top: int = Field(100, ge=1, le=1000)
    """Place that a target must come near to count in full when list weights are learned."""

    smoothing: float = Field(3.0, ge=0.0, le=1000.0)
    """Pull of each weight towards its neighbours in support size; more for few users."""

    max_tasks: int = Field(6000, ge=100, le=1_000_000)
    """Most held-out tasks that list weights are learned on; bounds memory and time."""

    @model_validator(mode="after")
    def _others_than_itself(self) -> AverageConfig:
        if Average.name in self.members:
            raise ValueError(f"members {list(self.members)}; wanted other learners than itself")
        return self


@dataclass(frozen=True, slots=True)
class Member:
    """A fitted learner of the average.

    Attributes:
        name: Its name in the registry.
        learner: The learner.
    """

    name: str
    learner: Learner


class Average:
    """``score(u, i) = sum_m w_m(k, c_m) z_m(u, i)``, ``z_m`` the standardised scores of member m.

    Each member's scores are put on a common scale: mean 0 and sd 1 over the catalogue, for each
    user. Its weight depends on the support size ``k`` and on how decided it is about the user
    (:mod:`metarec_core.learners.average_weights`); weights are learned on the validation users,
    whom no member was trained on, by a softmax likelihood that counts the heads of lists
    (stacking, Wolpert 1992, "Stacked Generalization", with weights that are functions, Sill et
    al. 2009, "Feature-Weighted Linear Stacking").

    Values are those of a mixture of the members that predict any, with weights by ``k`` and by each
    member's own variance: its mean, and its variance within and between members times a scale by
    ``k``, all by likelihood. Of an item that nobody met, members that read no features know
    nothing: there the others alone speak.

    Linear members keep their exact reasons: shares add with the user's weights, which are held
    fixed; what the other members bring is one share of its own, ``beyond``.
    """

    name: ClassVar[str] = "average"
    Config: ClassVar[type[Section]] = AverageConfig

    def __init__(self, config: Section) -> None:
        assert isinstance(config, AverageConfig)
        self.config = config
        self.members: list[Member] = []
        self._choices: list[Mapping[str, Any]] = []
        self.lists = ListWeights(1)
        self.values: ValueWeights | None = None
        self.valued: list[bool] = []
        self._met = torch.ones(0, dtype=torch.bool)

    def fit(self, train: TaskData, validation: TaskData, context: FitContext) -> FitReport:
        """Fit the members on ``train`` and their weights on ``validation``.

        A refit keeps the weights of the earlier fit: in it nobody is held out.
        """
        earlier = context.earlier if isinstance(context.earlier, Average) else None
        self.members = list(self._fit_members(train, validation, context, earlier))
        self.lists, self.values = ListWeights(len(self.members)), None
        items = torch.from_numpy(train.interactions.items)
        self._met = torch.bincount(items, minlength=train.n_items) > 0
        self._place(context.device)
        if earlier is not None:
            self.lists, self.values = earlier.lists, earlier.values
            self.valued = earlier.valued
        else:
            self._learn_weights(validation, context)
        self._place(context.device)
        return FitReport(facts=self._facts())

    def _learn_weights(self, validation: TaskData, context: FitContext) -> None:
        held_out = HeldOut(self, validation, self.config, context, self._met)
        self.lists = fit_list_weights(
            held_out.list_tasks(), smoothing=self.config.smoothing, top=self.config.top
        )
        self.valued = held_out.valued
        if validation.scale.feedback is Feedback.EXPLICIT and any(self.valued):
            self.values = fit_value_weights(
                *held_out.observations(), smoothing=self.config.smoothing
            )

    def _fit_members(
        self,
        train: TaskData,
        validation: TaskData,
        context: FitContext,
        earlier: Average | None,
    ) -> Iterator[Member]:
        # The registry imports this module.
        from metarec_core.learners.registry import learner_class

        self._choices = []
        dropped: set[str] = set()
        for place, name in enumerate(self.config.members):
            copy = self.config.members[:place].count(name)
            learner = context.fitted.get(name) if copy == 0 else None
            if name in dropped:
                continue
            chosen: Mapping[str, Any] = {}
            if learner is None:
                kind = learner_class(name)
                config = context.settings.get(name, kind.Config())
                own = replace(
                    context,
                    seed=context.seed + copy * _SEED_STEP,
                    work=context.work / f"{name}-{copy}" if context.work else None,
                    earlier=None,
                )
                if earlier is not None:
                    number = len(self._choices)
                    config = config.changed(earlier._choices[number])
                    own = replace(own, earlier=earlier.members[number].learner)
                learner = kind(config)
                try:
                    chosen = learner.fit(train, validation, own).chosen
                except CatalogueTooLargeError as error:
                    logger.warning("%s drops out of the average: %s", name, error)
                    dropped.add(name)
                    continue
            self._choices.append(chosen)
            yield Member(name, learner)

    def _facts(self) -> dict[str, float]:
        """Weight of each member by support size, where it is as decided about a user as usual."""
        usual = self.lists.usual
        with torch.no_grad():
            weights = self.lists(torch.tensor(KNOTS, device=usual.device), usual)
        facts: dict[str, float] = {}
        for place, member in enumerate(self.members):
            for knot, size in enumerate(KNOTS):
                if size not in _TOLD:
                    continue
                label = f"weight_{member.name}_at_{size}"
                facts[label] = facts.get(label, 0.0) + float(weights[knot, place])
        return facts

    def _speaks(self) -> Tensor | None:
        """Which of the members that predict values has a say on each item, ``[I, M']``."""
        reads = [
            getattr(member.learner, "reads_features", True)
            for member, valued in zip(self.members, self.valued, strict=True)
            if valued
        ]
        if all(reads) or not any(reads):
            return None
        return self._met[:, None] | torch.tensor(reads, device=self._met.device)

    def _place(self, device: torch.device) -> None:
        self._met = self._met.to(device)
        self.lists.to(device).requires_grad_(False)
        if self.values is not None:
            self.values.to(device).requires_grad_(False)

    def in_mode(self, mode: Mode) -> Self:
        """The members that can leave the other signals aside, with the weights they have.

        Raises:
            ModelError: If none can.
        """
        kept: list[tuple[int, Member]] = []
        for place, member in enumerate(self.members):
            try:
                kept.append((place, Member(member.name, in_mode(member.learner, mode))))
            except ModelError as error:
                logger.info("%s leaves the average: %s", member.name, error)
        if not kept:
            raise ModelError(
                f"mode of learner {self.name}",
                found=repr(mode),
                wanted="a mode that one of its members has: "
                + ", ".join(dict.fromkeys(member.name for member in self.members)),
                next_step="ask without mode, or name learner 'amortised' in "
                "learners.average.members and train again",
            )
        view = type(self)(self.config)
        places = [place for place, _ in kept]
        view.members = [member for _, member in kept]
        view.lists = self.lists.of(places)
        columns = [sum(self.valued[:place]) for place in places if self.valued[place]]
        if self.values is not None and columns:
            view.values = self.values.of(columns)
        view.valued = [self.valued[place] for place in places]
        view._met = self._met
        view._place(self.lists.usual.device)
        return view

    def adapt(self, support: Support) -> AveragePredictor:
        """Adapt every member."""
        predictors = [member.learner.adapt(support) for member in self.members]
        speaks = self._speaks() if self.values is not None else None
        others = LeaveOut(self.adapt, support, catalogue=len(self._met))
        unsure = any(isinstance(predictor, UncertainScores) for predictor in predictors)
        kind = UncertainAveragePredictor if unsure else AveragePredictor
        return kind(predictors, self.lists, self.values, support, speaks, others)

    def state(self) -> dict[str, Tensor]:
        """The members' names, settings and tensors, and the weights."""
        state: dict[str, Tensor] = {}
        for place, member in enumerate(self.members):
            about = {"name": member.name, "config": member.learner.config.model_dump(mode="json")}
            text = json.dumps(about, sort_keys=True).encode()
            state[f"about.{place}"] = torch.tensor(list(text), dtype=torch.uint8)
            state |= {f"{place}.{key}": value for key, value in member.learner.state().items()}
        state["valued"] = torch.tensor(self.valued)
        state["met"] = self._met
        state |= {f"lists.{key}": value for key, value in self.lists.state_dict().items()}
        if self.values is not None:
            state |= {f"values.{key}": value for key, value in self.values.state_dict().items()}
        return {key: value.detach().cpu() for key, value in state.items()}

    @classmethod
    def from_state(cls, config: Section, state: Mapping[str, Tensor], device: torch.device) -> Self:
        """The learner that :meth:`state` was taken from."""
        from metarec_core.learners.registry import learner_class

        learner = cls(config)
        n_members = sum(name.startswith("about.") for name in state)
        for place in range(n_members):
            about = json.loads(bytes(state[f"about.{place}"].tolist()))
            kind = learner_class(about["name"])
            own = kind.from_state(
                kind.Config.model_validate(about["config"]), _under(f"{place}.", state), device
            )
            learner.members.append(Member(about["name"], own))
        learner.valued = state["valued"].tolist()
        learner._met = state["met"]
        learner.lists = ListWeights(n_members)
        learner.lists.load_state_dict(_under("lists.", state))
        if values := _under("values.", state):
            learner.values = ValueWeights(values["level"].shape[1])
            learner.values.load_state_dict(values)
        learner._place(device)
        return learner


def _under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }
