"""An average over learners whose weights depend on what is known of a user."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from metarec_core.episodes.sampling import evaluation_episodes
from metarec_core.episodes.types import Episode, Support, TaskData
from metarec_core.errors import CatalogueTooLargeError
from metarec_core.learners.average_predictor import AveragePredictor
from metarec_core.learners.average_weights import (
    KNOTS,
    ListTasks,
    ListWeights,
    ValueWeights,
    fit_list_weights,
    fit_value_weights,
)
from metarec_core.learners.base import FitContext, FitReport, Learner
from metarec_core.schema import Feedback
from metarec_core.section import Section

logger = logging.getLogger(__name__)

_CELLS = 1 << 22
"""Scores (tasks x catalogue) of a member held at once while weights are learned."""

_SEED_STEP = 1009
"""Between the seeds of two copies of a member."""


class AverageConfig(Section):
    """An average over learners, its weights learned on held-out tasks."""

    members: tuple[str, ...] = Field(
        (
            "popularity",
            "bias",
            "item_knn",
            "ease",
            "ials",
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

    top: int = Field(20, ge=1, le=1000)
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

    Values are those of a mixture of the members that predict any, with weights by ``k``: its mean,
    and its variance within and between members times a scale by ``k``, all by likelihood.

    Linear members keep their exact reasons: shares add with the user's weights, which are held
    fixed; what the other members bring is one share of its own.
    """

    name: ClassVar[str] = "average"
    Config: ClassVar[type[Section]] = AverageConfig

    def __init__(self, config: Section) -> None:
        assert isinstance(config, AverageConfig)
        self.config = config
        self.members: list[Member] = []
        self.lists = ListWeights(1)
        self.values: ValueWeights | None = None

    def fit(self, train: TaskData, validation: TaskData, context: FitContext) -> FitReport:
        """Fit the members on ``train`` and their weights on ``validation``."""
        self.members = list(self._fit_members(train, validation, context))
        self.lists, self.values = ListWeights(len(self.members)), None
        self._place(context.device)
        explicit = validation.scale.feedback is Feedback.EXPLICIT
        held_out = _HeldOut(self, validation, context)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            self.lists = fit_list_weights(
                held_out.list_tasks(), smoothing=self.config.smoothing, top=self.config.top
            )
            if explicit and held_out.valued:
                self.values = fit_value_weights(
                    *held_out.observations(), smoothing=self.config.smoothing
                )
        self._place(context.device)
        return FitReport(facts=self._facts(held_out.usual))

    def _fit_members(
        self, train: TaskData, validation: TaskData, context: FitContext
    ) -> Iterator[Member]:
        # The registry imports this module.
        from metarec_core.learners.registry import learner_class

        dropped: set[str] = set()
        for place, name in enumerate(self.config.members):
            copy = self.config.members[:place].count(name)
            learner = context.fitted.get(name) if copy == 0 else None
            if learner is None and name not in dropped:
                kind = learner_class(name)
                learner = kind(context.settings.get(name, kind.Config()))
                own = replace(
                    context,
                    seed=context.seed + copy * _SEED_STEP,
                    work=context.work / f"{name}-{copy}" if context.work else None,
                )
                try:
                    learner.fit(train, validation, own)
                except CatalogueTooLargeError as error:
                    logger.warning("%s drops out of the average: %s", name, error)
                    dropped.add(name)
                    continue
            if learner is not None:
                yield Member(name, learner)

    def _facts(self, usual: Tensor) -> dict[str, float]:
        """Weight of each member at each knot, for a user about whom it is as decided as usual."""
        with torch.no_grad():
            weights = self.lists.cpu()(torch.tensor(KNOTS), usual)
        facts: dict[str, float] = {}
        for place, member in enumerate(self.members):
            for knot, size in enumerate(KNOTS):
                label = f"weight_{member.name}_at_{size}"
                facts[label] = facts.get(label, 0.0) + float(weights[knot, place])
        return facts

    def _place(self, device: torch.device) -> None:
        self.lists.to(device).requires_grad_(False)
        if self.values is not None:
            self.values.to(device).requires_grad_(False)

    def adapt(self, support: Support) -> AveragePredictor:
        """Adapt every member."""
        predictors = [member.learner.adapt(support) for member in self.members]
        return AveragePredictor(predictors, self.lists, self.values, support)

    def state(self) -> dict[str, Tensor]:
        """The members' names, settings and tensors, and the weights."""
        state: dict[str, Tensor] = {}
        for place, member in enumerate(self.members):
            about = {"name": member.name, "config": member.learner.config.model_dump(mode="json")}
            text = json.dumps(about, sort_keys=True).encode()
            state[f"about.{place}"] = torch.tensor(list(text), dtype=torch.uint8)
            state |= {f"{place}.{key}": value for key, value in member.learner.state().items()}
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
        learner.lists = ListWeights(n_members)
        learner.lists.load_state_dict(_under("lists.", state))
        if values := _under("values.", state):
            learner.values = ValueWeights(values["level"].shape[1])
            learner.values.load_state_dict(values)
        learner._place(device)
        return learner


class _HeldOut:
    """What members say of the validation tasks.

    Args:
        average: The average, its members fitted.
        validation: Users that no member was trained on.
        context: Seed, device and sizes.
    """

    def __init__(self, average: Average, validation: TaskData, context: FitContext) -> None:
        config = average.config
        self.valued = False
        self._relevant_from = validation.scale.relevant_from
        self._candidates = min(config.candidates, validation.n_items)
        lists: list[tuple[Tensor, ...]] = []
        values: list[tuple[Tensor, ...]] = []
        n_users = max(1, config.max_tasks // (config.shuffles * len(KNOTS)))
        users = np.arange(validation.n_users)[:n_users]
        for shuffle in range(config.shuffles):
            tasks = evaluation_episodes(
                validation,
                users,
                support_sizes=[size for size in KNOTS if size <= context.max_support],
                max_query=context.max_query,
                seed=context.seed + shuffle,
            )
            for batch in tasks.batches(max(1, _CELLS // validation.n_items)):
                episode = batch.episode.to(context.device)
                predictor = average.adapt(episode.support)
                lists.append(self._list_part(predictor, episode))
                values.append(_value_part(predictor, episode))
        self._lists = [torch.cat(parts) for parts in zip(*lists, strict=True)]
        self._values = [torch.cat(parts) for parts in zip(*values, strict=True)]
        self.valued = self._values[1].shape[1] > 0
        sizes, decided = self._lists[0], self._lists[1]
        self.usual = torch.stack(
            [
                decided[sizes == knot].mean(dim=0)
                if bool((sizes == knot).any())
                else decided.mean(dim=0)
                for knot in KNOTS
            ]
        )

    def list_tasks(self) -> ListTasks:
        """The tasks that have a target."""
        sizes, decided, scores, target = self._lists
        asked = target.any(dim=1)
        return ListTasks(sizes[asked], decided[asked], scores[asked], target[asked])

    def observations(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Sizes ``[N]``, members' means and variances ``[N, M']``, values ``[N]``."""
        sizes, mean, variance, values = self._values
        return sizes, mean, variance, values

    def _list_part(self, predictor: AveragePredictor, episode: Episode) -> tuple[Tensor, ...]:
        standard = predictor.standard_scores()
        known = _multi_hot(episode.support.items, episode.support.mask, standard.shape[1])
        relevant = episode.mask & (episode.values >= self._relevant_from)
        target = _multi_hot(episode.items, relevant, standard.shape[1])
        # Other items the user met in the query are no candidates: they are neither good nor bad.
        met = _multi_hot(episode.items, episode.mask & ~relevant, standard.shape[1])
        merit = standard.mean(dim=2).masked_fill(known | met, -torch.inf)
        merit = torch.where(target, torch.inf, merit)
        chosen = merit.topk(self._candidates, dim=1)
        out = (chosen.values == -torch.inf)[..., None]
        scores = standard.gather(1, chosen.indices[..., None].expand(-1, -1, standard.shape[2]))
        return (
            episode.support.sizes.cpu(),
            predictor.decided.float().cpu(),
            scores.masked_fill(out, -1e4).float().cpu(),
            target.gather(1, chosen.indices).cpu(),
        )


def _value_part(predictor: AveragePredictor, episode: Episode) -> tuple[Tensor, ...]:
    mean, variance = predictor.member_values(episode.items)
    sizes = episode.support.sizes[:, None].expand_as(episode.values)
    real = episode.mask
    return (
        sizes[real].cpu(),
        mean[real].float().cpu(),
        variance[real].float().cpu(),
        episode.values[real].cpu(),
    )


def _multi_hot(items: Tensor, mask: Tensor, n_items: int) -> Tensor:
    """``[B, I]`` bool: True at the items whose mask is."""
    counts = torch.zeros(len(items), n_items, dtype=torch.int32, device=items.device)
    return counts.scatter_add_(1, items, mask.int()) > 0


def _under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }
