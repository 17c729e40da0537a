"""Search for better settings of one learner, by validation users, resumable trial by trial."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import optuna
import sqlalchemy.exc
import torch
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from metarec_core.config import Config, TuneConfig
from metarec_core.episodes.store import Tasks
from metarec_core.errors import CatalogueTooLargeError, ModelError, StorageError
from metarec_core.learners.registry import learner_class
from metarec_core.section import Section
from metarec_core.storage import code_version, hash_json
from metarec_core.training.judged_fit import JudgedFits, Progress
from metarec_core.training.search_space import Values, as_tree, present, suggest

HIGHER_IS_BETTER = frozenset({"ndcg_at_10"})

_WATCHED = {"ndcg_at_10": ("list_nll", "loss"), "mae": ("mae", "loss")}
"""What an epoch is judged by, the first that a learner reports. A part comes before the loss:
where the weights of the parts are searched, losses of different trials cannot be compared."""

_NAME = "tune"
_ERROR, _SE, _SECONDS = "error", "se", "seconds"
_ENOUGH_FOR_IMPORTANCE = 8


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial that ended.

    Attributes:
        number: Its place in the study, from 0.
        state: ``completed``; ``pruned``: stopped, as it was behind the others; ``failed``.
        values: What was tried.
        score: The metric, of a completed trial.
        se: Its standard error over validation users.
        epochs: Epochs that were judged.
        seconds: Wall time.
        error: Why it failed.
    """

    number: int
    state: Literal["completed", "pruned", "failed"]
    values: Values
    score: float | None
    se: float | None
    epochs: int
    seconds: float
    error: str | None


@dataclass(frozen=True, slots=True)
class Tuning:
    """A study as far as it came.

    Attributes:
        trials: Those that ended, in their order.
        best: The completed one with the best score; the first of equals.
        importance: Share of the scores' variance that each setting explains (fANOVA, Hutter et
            al. 2014); empty with few completed trials.
        winner: All settings, with the best values in the learner's section.
    """

    trials: tuple[Trial, ...]
    best: Trial
    importance: Mapping[str, float]
    winner: Config


class Told(Protocol):
    """Hears of one trial."""

    def epoch(self, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        """An epoch (or a turn of another loop) is over."""
        ...

    def ended(self, trial: Trial) -> None:
        """The trial is over."""
        ...


class Watch(Protocol):
    """Opens what hears of a trial; left by an exception where the study itself stops."""

    def __call__(self, number: int, values: Values) -> AbstractContextManager[Told]:
        """Trial ``number`` begins with ``values``."""
        ...


def study_settings(config: Config, device: torch.device) -> dict[str, Any]:
    """What the trials of a study depend on beside data: not how many there are to be."""
    learner = learner_class(config.tune.learner)
    return {
        "tune": config.tune.model_dump(exclude={"trials", "timeout_minutes"}),
        "seed": config.seed,
        "device": str(device),
        "learners": config.learners.model_dump(mode="json")
        if config.tune.learner == "average"
        else getattr(config.learners, config.tune.learner).model_dump(mode="json"),
        "space": {path: repr(where) for path, where in learner.Config.search.items()},
        "episodes": config.episodes.model_dump(mode="json"),
    }


def study_path(root: Path, settings: Mapping[str, Any], data: Mapping[str, str]) -> Path:
    """The file of a study below ``root``: another one for other settings, data or code."""
    return root / hash_json([dict(settings), dict(data), code_version()])[:16] / "study.db"


def trials_done(storage: Path) -> int:
    """How many trials of the study in ``storage`` have ended; 0 if there is none yet."""
    if not storage.exists():
        return 0
    with _opened(storage, None) as study:
        return len(_ended(study))


def tune(
    tasks: Tasks,
    config: Config,
    *,
    device: torch.device,
    storage: Path,
    watch: Watch,
) -> Tuning:
    """Try settings of ``config.tune.learner`` until there are ``config.tune.trials`` trials.

    Scores are those of validation users (:class:`~metarec_core.training.judged_fit.JudgedFits`),
    by which learners also stop early: they compare trials and promise nothing.

    The present settings are the first trial, so that the winner is never worse by validation. The
    others come from a tree-structured Parzen estimator (Bergstra et al. 2011), seeded anew for
    each trial by its place: a study that was killed repeats the trial it was in and ends with the
    very trials of one that was not. A network is stopped after an epoch in which it is behind the
    median of the trials before it.

    Args:
        tasks: The dataset's users.
        config: Every setting; ``tune`` says what is searched.
        device: Where tensors live.
        storage: SQLite file of the study; trials in it count.
        watch: Hears of every trial of this call.

    Raises:
        ConfigError: If the learner has no figure of the metric.
        ModelError: If no trial completed.
        StorageError: If the file is no study, or cannot be written.
    """
    asked = config.tune
    learner = learner_class(asked.learner)
    space, base = learner.Config.search, getattr(config.learners, asked.learner)
    fits = JudgedFits(tasks, config, device)
    limit = asked.timeout_minutes
    deadline = None if limit is None else time.monotonic() + 60.0 * limit
    with _opened(storage, asked) as study:
        for broken in study.get_trials(states=(TrialState.RUNNING,)):
            study.tell(broken.number, state=TrialState.FAIL)
        while (place := len(_ended(study))) < asked.trials:
            if place and deadline is not None and time.monotonic() > deadline:
                break
            study.sampler = _sampler(config.seed, place)
            start = present(base, space) if place == 0 else None
            if start and not study.get_trials(states=(TrialState.WAITING,)):
                study.enqueue_trial(start)
            trial = study.ask()
            values = suggest(trial, space)
            with watch(place, values) as told:
                _run(study, trial, asked, fits, base.changed(as_tree(values)), told)
                told.ended(_trial(place, _ended(study)[place]))
        ended = tuple(_trial(place, frozen) for place, frozen in enumerate(_ended(study)))
        best = _best(ended, asked)
        importance = _importance(study, config.seed)
    tree = {"learners": {asked.learner: as_tree(best.values)}}
    return Tuning(ended, best, importance, config.changed(tree))


def _run(
    study: optuna.Study,
    trial: optuna.Trial,
    asked: TuneConfig,
    fits: JudgedFits,
    section: Section,
    told: Told,
) -> None:
    """Fit and judge, and tell the study; other errors leave the trial to be repeated."""
    started = time.perf_counter()
    value, state = None, TrialState.COMPLETE
    try:
        score = fits.score(section, _progress(trial, asked, section, told))
        value = score.value
        trial.set_user_attr(_SE, score.se)
    except optuna.TrialPruned:
        state = TrialState.PRUNED
    except CatalogueTooLargeError:
        raise  # so would be every other trial
    except (ModelError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
        state = TrialState.FAIL
        trial.set_user_attr(_ERROR, str(error))
    trial.set_user_attr(_SECONDS, time.perf_counter() - started)
    study.tell(trial, value, state=state)


def _progress(trial: optuna.Trial, asked: TuneConfig, section: Section, told: Told) -> Progress:
    """Passes epochs on, and stops a network that is behind; raises :class:`optuna.TrialPruned`."""
    sign = -1.0 if asked.metric in HIGHER_IS_BETTER else 1.0
    # Only a network's own epochs say how good it will be: not turns of a solver, not members.
    by_epoch = "loop" in type(section).model_fields

    def report(step: int, steps: int, metrics: Mapping[str, float]) -> None:
        told.epoch(step, steps, metrics)
        watched = next((name for name in _WATCHED[asked.metric] if name in metrics), None)
        if not by_epoch or watched is None:
            return
        trial.report(sign * metrics[watched], step)
        # The last epoch is over: what is left is to judge it.
        if step < steps and trial.should_prune():
            raise optuna.TrialPruned

    return report


@contextmanager
def _opened(storage: Path, asked: TuneConfig | None) -> Iterator[optuna.Study]:
    """The study in ``storage``; made if ``asked`` says what is to be sought."""
    # Optuna has a log of its own; what happens here is told to the watch.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    base = None
    try:
        with _guarded(storage, OSError, KeyError):
            storage.parent.mkdir(parents=True, exist_ok=True)
            base = optuna.storages.RDBStorage(f"sqlite:///{storage}")
            study = _study(base, asked)
        with _guarded(storage):
            yield study
    finally:
        if base is not None:
            base.remove_session()
            base.engine.dispose()


def _study(base: optuna.storages.RDBStorage, asked: TuneConfig | None) -> optuna.Study:
    if asked is None:
        return optuna.load_study(study_name=_NAME, storage=base)
    return optuna.create_study(
        study_name=_NAME,
        storage=base,
        load_if_exists=True,
        direction="maximize" if asked.metric in HIGHER_IS_BETTER else "minimize",
        pruner=optuna.pruners.MedianPruner(
            n_startup_trials=asked.prune_after_trials,
            # Optuna counts from step 0, epochs from 1.
            n_warmup_steps=asked.prune_after_epochs + 1,
        ),
    )


@contextmanager
def _guarded(storage: Path, *more: type[Exception]) -> Iterator[None]:
    kinds: tuple[type[Exception], ...] = (
        sqlalchemy.exc.SQLAlchemyError,
        optuna.exceptions.StorageInternalError,
        *more,
    )
    try:
        yield
    except kinds as error:
        raise StorageError(
            f"study {storage}",
            found=f"{type(error).__name__}: {error}",
            wanted="a study that can be read and written",
            next_step="remove that directory to begin anew, or make METAREC_HOME writable",
        ) from error


def _sampler(seed: int, place: int) -> optuna.samplers.TPESampler:
    own = np.random.SeedSequence([seed, place]).generate_state(1)[0]
    return optuna.samplers.TPESampler(seed=int(own))


def _ended(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that need not be repeated: of those that failed, the ones that said why."""
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    return [
        trial
        for trial in study.get_trials(deepcopy=False, states=states)
        if trial.state is not TrialState.FAIL or _ERROR in trial.user_attrs
    ]


def _trial(place: int, frozen: FrozenTrial) -> Trial:
    done = frozen.state is TrialState.COMPLETE
    return Trial(
        number=place,
        state="completed" if done else "pruned" if frozen.state is TrialState.PRUNED else "failed",
        values=dict(frozen.params),
        # A pruned trial's value is that of its last epoch, in another unit.
        score=frozen.value if done else None,
        se=frozen.user_attrs.get(_SE),
        epochs=len(frozen.intermediate_values),
        seconds=frozen.user_attrs.get(_SECONDS, 0.0),
        error=frozen.user_attrs.get(_ERROR),
    )


def _best(trials: tuple[Trial, ...], asked: TuneConfig) -> Trial:
    sign = -1.0 if asked.metric in HIGHER_IS_BETTER else 1.0
    scored = [(sign * trial.score, trial) for trial in trials if trial.score is not None]
    if not scored:
        told = next((trial.error for trial in trials if trial.error), "no message")
        raise ModelError(
            f"tuning of {asked.learner}",
            found=f"no completed trial out of {len(trials)}; the first failure: {told}",
            wanted="at least one",
            next_step=f"fit it once with 'metarec run --train-only --set "
            f"training.learners=[{asked.learner}]', and correct its settings",
        )
    return min(scored, key=lambda pair: pair[0])[1]


def _importance(study: optuna.Study, seed: int) -> dict[str, float]:
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(done) < _ENOUGH_FOR_IMPORTANCE or len({trial.value for trial in done}) == 1:
        return {}
    found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed))
    return {name: float(share) for name, share in found.items()}
