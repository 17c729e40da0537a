"""Fit each learner on a study, and judge it on all that the study asks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import polars as pl
import torch

from metarec_core.calibration.fit import calibrate
from metarec_core.calibration.relevance import ByMode, RelevanceCalibration
from metarec_core.episodes.types import TaskData
from metarec_core.errors import MetarecError, ModelError
from metarec_core.evaluation.evaluate import Adaptable, evaluate
from metarec_core.evaluation.measures import measures
from metarec_core.evaluation.protocols.study import Reference, State, Study
from metarec_core.learners.base import FitContext, Learner
from metarec_core.learners.modes import MODES, PERSONALISED, ModalLearner, Mode, labelled
from metarec_core.learners.registry import learner_class
from metarec_core.section import Section

# What a learner may fail with on data that it was not made for; faults of the harness pass.
_FAILURES = (MetarecError, RuntimeError, ArithmeticError, ValueError, MemoryError)
BATCH = 256
"""Tasks adapted at once: a covariance each, and scores of the whole catalogue."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A learner that did not get through a study.

    Attributes:
        learner: Its name.
        study: The study's name.
        message: What it said.
    """

    learner: str
    study: str
    message: str


@dataclass(frozen=True, slots=True)
class Timing:
    """What a learner cost in a study.

    Attributes:
        learner: Its name.
        study: The study's name.
        fit_seconds: Wall time of fitting, refit and the fits of its members included.
        adapt_seconds: Wall time of adapting to all test tasks, ranking and measuring them.
        tasks: Test tasks.
        facts: What fitting reported.
        chosen: What validation chose.
    """

    learner: str
    study: str
    fit_seconds: float
    adapt_seconds: float
    tasks: int
    facts: Mapping[str, float]
    chosen: Mapping[str, Any]

    @property
    def tasks_per_second(self) -> float:
        """Test tasks adapted, ranked and measured in a second."""
        return self.tasks / max(self.adapt_seconds, 1e-9)


@dataclass(slots=True)
class Results:
    """What all learners made of all studies.

    Attributes:
        frames: One frame a learner, study, state and k: columns of ``evaluate`` with ``study``,
            ``state`` and ``k`` before them.
        states: The states met, by name.
        timings: Costs.
        failures: Learners that failed; their figures are left out.
        studies: Facts and user ids of each study.
    """

    frames: list[pl.DataFrame] = field(default_factory=list)
    states: dict[str, State] = field(default_factory=dict)
    timings: list[Timing] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    studies: dict[str, dict[str, Any]] = field(default_factory=dict)


Progress = Callable[[str, str, float], None]
"""Called with the study, the learner, and the share of its work that is done."""


def run_studies(
    studies: Iterable[Study],
    learners: Mapping[str, Section],
    *,
    device: torch.device,
    max_support: int,
    max_query: int,
    progress: Progress | None = None,
) -> Results:
    """Every learner on every study; one that fails is named, and the others go on.

    Where a state asks for probabilities of relevance, each learner's are calibrated on the study's
    validation users, before the refit that trains on them. A learner that can leave signals aside
    is judged in each of its modes too, without another fit.

    Args:
        studies: The protocol's studies.
        learners: Settings of each registered learner to compare, by name.
        device: Where tensors live.
        max_support: Largest support set sampled in training.
        max_query: Largest query set sampled in training.
        progress: Told how far a learner is.
    """
    results = Results()
    for study in studies:
        results.studies[study.name] = {
            "seed": study.seed,
            "facts": dict(study.facts),
            "users": {name: list(users) for name, users in study.user_ids.items()},
        }
        results.states |= {state.name: state for state in study.states}
        entrants: dict[str, Callable[[], _Fitted]] = {
            reference.name: partial(_fit_reference, reference, study)
            for reference in study.references
        }
        first, again = Lent(), Lent()
        for name, config in learners.items():
            context = FitContext(
                seed=study.seed,
                device=device,
                max_support=max_support,
                max_query=max_query,
                progress=_within_study(progress, study.name, name),
                settings=learners,
            )
            entrants[name] = partial(_fit, name, config, study, context, first, again)
        for name, fit in entrants.items():
            if progress is not None:
                progress(study.name, name, 0.0)
            label = name
            try:
                fitted = fit()
                _enter(results, study, name, fitted, PERSONALISED, device)
                for mode, view in _views(fitted.learner):
                    label = labelled(name, mode)
                    _enter(results, study, label, replace(fitted, learner=view), mode, device)
            except _FAILURES as error:
                results.failures.append(Failure(label, study.name, _said(error)))
            if progress is not None:
                progress(study.name, name, 1.0)
    return results


def fit_learner(
    name: str, config: Section, train: TaskData, validation: TaskData, context: FitContext
) -> tuple[Learner, Mapping[str, float], Mapping[str, Any]]:
    """A learner fitted once: itself, its facts, and what validation chose."""
    learner = learner_class(name)(config)
    report = learner.fit(train, validation, context)
    return learner, report.facts, report.chosen


@dataclass(frozen=True, slots=True)
class _Fitted:
    learner: Adaptable
    seconds: float
    facts: Mapping[str, float] = field(default_factory=dict)
    chosen: Mapping[str, Any] = field(default_factory=dict)
    relevance: ByMode = field(default_factory=dict)


class Lent(Mapping[str, Learner]):
    """Learners that are fitted, lent to those made of others: who takes one pays for its fit.

    A learner made of others would otherwise seem to cost nothing but their weights.
    """

    def __init__(self) -> None:
        self._fitted: dict[str, tuple[Learner, float]] = {}
        self._taken: set[str] = set()

    def __getitem__(self, name: str) -> Learner:
        learner, _ = self._fitted[name]
        self._taken.add(name)
        return learner

    def __iter__(self) -> Iterator[str]:
        return iter(self._fitted)

    def __len__(self) -> int:
        return len(self._fitted)

    def put(self, name: str, learner: Learner, seconds: float) -> float:
        """Keep a learner; returns what it cost, those it has taken included."""
        seconds += sum(self._fitted[taken][1] for taken in self._taken)
        self._taken.clear()
        self._fitted[name] = (learner, seconds)
        return seconds


def _fit(
    name: str, config: Section, study: Study, context: FitContext, first: Lent, again: Lent
) -> _Fitted:
    """Fit, and refit where the study asks; both are left for learners that are made of others."""
    started = time.perf_counter()
    learner, facts, chosen = fit_learner(
        name, config, study.train, study.validation, replace(context, fitted=first)
    )
    seconds = first.put(name, learner, time.perf_counter() - started)
    started = time.perf_counter()
    relevance: ByMode = {}
    if any(state.threshold is not None for state in study.states):
        relevance = calibrate(learner, study.validation, device=context.device, seed=context.seed)
    seconds += time.perf_counter() - started
    if study.refit is not None:
        started = time.perf_counter()
        config = config.changed(chosen)
        refit = replace(context, fitted=again, earlier=learner)
        learner, facts, _ = fit_learner(name, config, study.refit, study.validation, refit)
        seconds += again.put(name, learner, time.perf_counter() - started)
    return _Fitted(learner, seconds, facts, chosen, relevance)


def _fit_reference(reference: Reference, study: Study) -> _Fitted:
    started = time.perf_counter()
    reference.fit(study.train if study.refit is None else study.refit)
    return _Fitted(reference, time.perf_counter() - started)


def _enter(
    results: Results, study: Study, name: str, fitted: _Fitted, mode: Mode, device: torch.device
) -> None:
    started = time.perf_counter()
    relevance = fitted.relevance.get(mode)
    frames = list(_judge(study.states, study.name, name, fitted.learner, relevance, device))
    seconds = time.perf_counter() - started
    results.frames += frames
    tasks = sum(len(frame) for frame in frames)
    results.timings.append(
        Timing(name, study.name, fitted.seconds, seconds, tasks, fitted.facts, fitted.chosen)
    )


def _views(learner: Adaptable) -> Iterator[tuple[Mode, Learner]]:
    """The learner with some signals alone, for each mode that it was not trained for but has."""
    if not isinstance(learner, ModalLearner):
        return
    for mode in MODES:
        if mode in (PERSONALISED, getattr(learner, "mode", PERSONALISED)):
            continue
        try:
            yield mode, learner.in_mode(mode)
        except ModelError:
            continue


def _judge(
    states: Sequence[State],
    study: str,
    name: str,
    learner: Adaptable,
    relevance: RelevanceCalibration | None,
    device: torch.device,
) -> Iterator[pl.DataFrame]:
    for state in states:
        for k, tasks in state.tasks.items():
            frame = evaluate(
                learner,
                tasks,
                device=device,
                batch_size=BATCH,
                name=name,
                measures=measures(*state.measures),
                threshold=state.threshold,
                relevance=relevance if state.threshold is not None else None,
            )
            yield frame.select(
                pl.lit(study).alias("study"),
                pl.lit(state.name).alias("state"),
                pl.lit(k, dtype=pl.Int64).alias("k"),
                pl.all(),
            )


def _within_study(
    progress: Progress | None, study: str, learner: str
) -> Callable[[int, int, Mapping[str, float]], None] | None:
    if progress is None:
        return None
    return lambda step, steps, _: progress(study, learner, step / max(steps, 1))


def _said(error: BaseException) -> str:
    text = str(error) if isinstance(error, MetarecError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:500]
