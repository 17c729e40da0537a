"""Judge the challenger on test tasks, register it, and move the champion if the rule holds."""

from __future__ import annotations

from prefect import task
from prefect.logging import get_run_logger

from metarec_core.errors import ModelError
from metarec_core.evaluation import Verdict
from metarec_core.ingest.descriptor import load_descriptor
from metarec_core.reporting.status import ChampionStatus, GateStatus
from metarec_core.storage import StageOutput
from tasks.calibration import figures_of, warn
from tasks.contest import VERDICT, Contest
from tasks.night import Night
from tasks.stage import COMPUTED, RETRIED, Stage, stage
from tasks.tracking import (
    ChampionRef,
    Context,
    promote,
    register_challenger,
    require_same_dataset,
)


@task(name="gate", **COMPUTED)
def gate(
    night: Night,
    cleaned: StageOutput,
    features: StageOutput,
    episodes: StageOutput,
    trained: StageOutput,
) -> ChampionRef:
    """Decide, register the challenger, move the alias, and return who is champion now.

    Raises:
        ModelError: If the champion serves another dataset.
        StorageError: If the champion's files cannot be read: it is not judged unread.
        ServiceError: If MLflow does not answer, or the champion changed meanwhile.
    """
    config = night.config
    reigning = champion_of_dataset(night)
    settings = {
        "gate": config.gate.model_dump(mode="json"),
        "support_sizes": list(config.episodes.support_sizes),
        "max_query": config.episodes.max_query,
        "learners": list(config.training.learners),
        "seed": config.seed,
        "champion": reigning.content_hash if reigning else None,
        "calibration": config.calibration.model_dump(mode="json"),
        "champion_figures": figures_of(reigning) if reigning else None,
    }
    with stage(night, "gate", settings) as running:
        running.tracked.log_dataset(episodes, name="episodes", context=Context.EVALUATION)
        output = running.build(
            lambda out, _: Contest(night, cleaned, features, episodes, trained).judge(
                reigning, out
            ),
            inputs=[cleaned, features, episodes, trained],
        )
        for figure in sorted(output.path.glob("*.png")):
            running.tracked.log_file(figure, "figures")
        running.tracked.log_file(output.path / VERDICT)
        verdict = read_verdict(output)
        night.tracked.log_metrics({"test": output.facts["test"]})
        ruling = _apply(running, trained, output, verdict, reigning)
        warn(night, output)
    night.record(
        champion=ChampionStatus(
            version=str(ruling.version), learner=ruling.learner, metrics=ruling.metrics
        ),
        gate=GateStatus(verdict=verdict.verdict, reason=verdict.reason, remark=verdict.remark),
    )
    get_run_logger().info("gate: %s. %s %s", verdict.verdict, verdict.reason, verdict.remark)
    return ruling


def champion_of_dataset(night: Night) -> ChampionRef | None:
    """The champion; None if nothing was ever promoted. To be asked before anything is trained.

    Raises:
        ModelError: If it serves another dataset than the night's.
    """
    return require_same_dataset(night.store, load_descriptor(night.config.dataset.name).name)


@task(name="champion", **RETRIED)
def reigning_champion(night: Night) -> ChampionRef:
    """The champion as it is.

    Raises:
        ModelError: If nothing was ever promoted, or it serves another dataset.
    """
    found = champion_of_dataset(night)
    if found is None:
        raise ModelError(
            "models:/metarec@champion",
            found="no champion yet",
            wanted="a model that passed the gate",
            next_step="run the flow 'nightly' or 'train' once ('metarec run')",
        )
    night.record(
        champion=ChampionStatus(
            version=str(found.version), learner=found.learner, metrics=found.metrics
        )
    )
    return found


def read_verdict(output: StageOutput) -> Verdict:
    """The verdict that a gate stage wrote."""
    return Verdict.model_validate_json((output.path / VERDICT).read_text(encoding="utf-8"))


def _apply(
    running: Stage,
    trained: StageOutput,
    output: StageOutput,
    verdict: Verdict,
    reigning: ChampionRef | None,
) -> ChampionRef:
    """Register the challenger, and the winner if it is another; move the alias if so decided."""
    night = running.night
    challenger = night.config.training.learners[-1]
    registered = {
        name: register_challenger(
            night.store,
            trained.path / name,
            run_id=night.tracked.run_id,
            learner=name,
            stage_key=trained.key,
            run_date=night.run_date,
            metrics=output.facts["test"][name],
        )
        # The challenger last: the alias stays with it.
        for name in dict.fromkeys((verdict.winner, challenger))
        if name == challenger or verdict.promoted
    }
    if verdict.promoted:
        return promote(night.store, registered[verdict.winner].version, over=reigning)
    # The rule promotes someone where nobody reigns.
    assert reigning is not None
    return reigning
