"""Users become tasks."""

from __future__ import annotations

from dataclasses import asdict

from prefect import task

from metarec_core.episodes.store import build_episodes
from metarec_core.storage import StageOutput
from tasks.ingest import read_descriptor
from tasks.night import Night
from tasks.stage import COMPUTED, stage


@task(name="episodes", **COMPUTED)
def sample_episodes(
    night: Night, raw: StageOutput, cleaned: StageOutput, features: StageOutput
) -> StageOutput:
    """Sparse arrays of every user's interactions, and who trains, chooses and judges."""
    config = night.config.episodes
    scale = read_descriptor(raw).scale()
    settings = config.model_dump(include={"min_task_interactions", "min_tasks", "order"})
    settings["scale"] = asdict(scale)
    with stage(night, "episodes", settings) as running:
        return running.build(
            lambda out, _: build_episodes(
                cleaned.path, features.path, out, scale=scale, config=config
            ),
            inputs=[cleaned, features],
        )
