"""What diversity costs the champion's lists, and how much of it the preset takes."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.logging import get_run_logger

from metarec_core.ranking.diversity.frontier import gentle, unmeasured
from metarec_core.ranking.diversity.settings import DiversityConfig
from metarec_core.storage import StageFacts, StageOutput
from tasks.findings import warn
from tasks.night import Night
from tasks.stage import COMPUTED, stage
from tasks.tonight import open_tonight
from tasks.tracking import ChampionRef

FRONTIER = "frontier.parquet"
CHOSEN = "chosen"
"""Fact of the stage: the settings of the re-ranking, its strength chosen."""

UNMEASURED = "unmeasured"
"""Fact of the stage: why the preset had nothing to choose by; null where it had, or none is set."""


@task(name="diversity", **COMPUTED)
def study_diversity(
    night: Night,
    cleaned: StageOutput,
    features: StageOutput,
    episodes: StageOutput,
    ruling: ChampionRef,
) -> StageOutput:
    """Measure every re-ranking on validation users, and choose the strength of the preset.

    Raises:
        ConfigError: If the re-ranking needs what the champion or the catalogue does not have.
    """
    config = night.config
    wanted = config.recommend.diversity
    measured = config.recommend.frontier or wanted.preset is not None
    settings = {
        "diversity": wanted.model_dump(mode="json"),
        "measured": measured,
        "support_sizes": list(config.episodes.support_sizes),
        "max_query": config.episodes.max_query,
        "seed": config.seed,
        "champion": ruling.content_hash,
    }
    with stage(night, "diversity", settings) as running:

        def build(out: Path, scratch: Path) -> StageFacts:
            if not measured:
                return StageFacts(facts={CHOSEN: wanted.model_dump(mode="json")})
            tonight = open_tonight(night, cleaned, features, episodes, ruling, scratch)
            figures = tonight.frontier(config.recommend, config.episodes, config.seed)
            figures.write_parquet(out / FRONTIER)
            chosen = gentle(wanted, figures)
            return StageFacts(
                rows_out=len(figures),
                facts={
                    CHOSEN: chosen.model_dump(mode="json"),
                    UNMEASURED: unmeasured(figures) if wanted.preset is not None else None,
                },
            )

        output = running.build(build, inputs=[cleaned, features, episodes])
        chosen = chosen_diversity(output)
        why = output.facts.get(UNMEASURED)
        if why is not None:
            warn(night, [f"diversity: {why}; the preset {wanted.preset} leaves lists as they are"])
        running.tracked.log_metrics({"diversity": {"strength": chosen.strength}})
    get_run_logger().info("diversity: %s at strength %g", chosen.method, chosen.strength)
    return output


def chosen_diversity(output: StageOutput) -> DiversityConfig:
    """The re-ranking that the stage chose."""
    return DiversityConfig.model_validate(output.facts[CHOSEN])
