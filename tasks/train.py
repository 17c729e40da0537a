"""Meta-train the learners, each into a model bundle of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from prefect import task
from prefect.logging import get_run_logger

from metarec_core.calibration.fit import calibrate
from metarec_core.calibration.relevance import ByMode
from metarec_core.config import Config
from metarec_core.episodes.split import Split, SplitFractions
from metarec_core.episodes.store import Tasks, load_tasks
from metarec_core.errors import ModelError
from metarec_core.features.encoder import FeatureEncoder
from metarec_core.features.named import NamedFeatures
from metarec_core.learners.average import Average
from metarec_core.learners.base import FitContext, FitReport, Learner
from metarec_core.learners.modes import PERSONALISED
from metarec_core.learners.registry import learner_class, learner_names
from metarec_core.serving.bundle import Bundle, save_bundle
from metarec_core.storage import StageFacts, StageOutput, write_json
from metarec_core.training.device import pick_device
from tasks.ingest import read_descriptor
from tasks.night import Night
from tasks.progress import Told, told_progress
from tasks.stage import COMPUTED, Stage, stage
from tasks.tracking import Context

TRAINING_REPORT = "training.json"


@task(name="meta-train", **COMPUTED)
def meta_train(
    night: Night, raw: StageOutput, features: StageOutput, episodes: StageOutput
) -> StageOutput:
    """A bundle for each configured learner, fitted on training tasks, chosen on validation."""
    config = night.config
    settings = {
        "seed": config.seed,
        "device": str(pick_device(config.training.device)),
        # Products of matrices round by how many threads share them.
        "threads": config.training.threads,
        "max_support": config.episodes.max_support,
        "max_query": config.episodes.max_query,
        "learners": {
            name: getattr(config.learners, name).model_dump(mode="json")
            for name in dict.fromkeys((*config.training.learners, *_members(config)))
        },
    }
    with stage(night, "train", settings) as running:
        running.tracked.log_dataset(episodes, name="episodes", context=Context.TRAINING)
        return running.build(
            lambda out, scratch: _train_all(running, raw, features, episodes, out, scratch),
            inputs=[raw, features, episodes],
        )


def _train_all(
    running: Stage,
    raw: StageOutput,
    features: StageOutput,
    episodes: StageOutput,
    out: Path,
    scratch: Path,
) -> StageFacts:
    config = running.night.config
    torch.set_num_threads(config.training.threads)
    device = pick_device(config.training.device)
    dataset = read_descriptor(raw).name
    tasks = load_tasks(episodes.path, features.path)
    user_encoder = FeatureEncoder.load(features.path, "user_encoder")
    named = NamedFeatures.from_stage(features.path)
    reports: dict[str, FitReport] = {}
    fitted: dict[str, Learner] = {}
    for name in config.training.learners:
        learner = learner_class(name)(getattr(config.learners, name))
        with told_progress(f"training {name}", key="training") as tell:
            context = FitContext(
                seed=config.seed,
                device=device,
                max_support=config.episodes.max_support,
                max_query=config.episodes.max_query,
                work=scratch / name,
                progress=_curves(running, name, tell),
                settings={other: getattr(config.learners, other) for other in learner_names()},
                fitted=fitted,
            )
            reports[name] = _fit(learner, tasks, context)
        fitted[name] = learner
        held_out = tasks.part(Split.VALIDATION)
        relevance = calibrate(learner, held_out, device=device, seed=config.seed)
        reports[name].facts.update(_worth(relevance))
        save_bundle(
            Bundle(
                learner=learner,
                learner_name=name,
                catalogue=tasks.catalogue,
                user_encoder=user_encoder,
                scale=tasks.data.scale,
                dataset=dataset,
                split=SplitFractions(
                    validation=config.episodes.validation_fraction,
                    test=config.episodes.test_fraction,
                ),
                named=named,
                relevance=relevance,
                newest=tasks.data.interactions.newest,
            ),
            out / name,
        )
        facts = ", ".join(f"{fact} {value:.4g}" for fact, value in reports[name].facts.items())
        get_run_logger().info("trained %s: %s", name, facts)
    write_json(
        out / TRAINING_REPORT,
        {name: {"facts": r.facts, "curves": r.curves} for name, r in reports.items()},
    )
    return StageFacts(
        rows_in=episodes.rows_out,
        rows_out=len(reports),
        facts={name: report.facts for name, report in reports.items()},
    )


def _worth(relevance: ByMode) -> dict[str, float]:
    """The calibration error on validation users left out of the calibration, where it is known."""
    usual = relevance.get(PERSONALISED)
    return {} if usual is None or usual.ece is None else {"relevance_ece": usual.ece}


def _members(config: Config) -> tuple[str, ...]:
    """Learners that are trained as parts of another one: their settings matter too."""
    if Average.name not in config.training.learners:
        return ()
    return tuple(getattr(config.learners, Average.name).members)


def _fit(learner: Learner, tasks: Tasks, context: FitContext) -> FitReport:
    report = learner.fit(tasks.part(Split.TRAIN), tasks.part(Split.VALIDATION), context)
    broken = [name for name, tensor in learner.state().items() if not tensor.isfinite().all()]
    if broken:
        raise ModelError(
            f"learner {learner.name}",
            found=f"numbers that are not finite in {', '.join(broken)}",
            wanted="finite weights",
            next_step=f"lower the learning rate or raise the penalties in learners.{learner.name} "
            "and run again",
        )
    return report


def progress_note(step: int, steps: int, metrics: Mapping[str, float]) -> str:
    """How far training is: its validation loss, or all it says where it has none.

    >>> progress_note(3, 80, {"loss": 1.25, "nll": 0.5})
    'epoch 3/80  validation loss 1.2500'
    >>> progress_note(3, 8, {"moved": 0.5})
    'turn 3/8  moved 0.5000'
    """
    if "loss" in metrics:
        return f"epoch {step}/{steps}  validation loss {metrics['loss']:.4f}"
    told = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
    return f"turn {step}/{steps}  {told}"


def _curves(
    running: Stage, name: str, tell: Told
) -> Callable[[int, int, Mapping[str, float]], None]:
    """Epochs as curves in MLflow, and told."""

    def report(step: int, steps: int, metrics: Mapping[str, float]) -> None:
        running.tracked.log_epoch(step, {f"{name}/{key}": value for key, value in metrics.items()})
        tell(step, steps, progress_note(step, steps, metrics))

    return report
