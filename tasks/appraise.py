"""What the published lists and their reasons are like."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from prefect import task

from metarec_core.evaluation.explanations import judge_reasons, stability
from metarec_core.ranking.publication import LISTS, earlier_lists, shards_in
from metarec_core.reporting.lists import read_publication
from metarec_core.schema import Columns
from metarec_core.serving.appraisal import EVERYONE, drawn_lists, list_figures, lists_of
from metarec_core.storage import StageFacts, StageOutput
from tasks.night import Night
from tasks.stage import COMPUTED, stage
from tasks.tonight import open_tonight
from tasks.tracking import ChampionRef

LIST_METRICS = "list_metrics.parquet"
EXPLANATIONS = "explanations.parquet"
CURVES = "explanation_curves.parquet"


@task(name="appraise", **COMPUTED)
def appraise_lists(
    night: Night,
    cleaned: StageOutput,
    features: StageOutput,
    episodes: StageOutput,
    ruling: ChampionRef,
    lists: StageOutput,
) -> StageOutput:
    """Measure how diverse the lists are, and whether their reasons are true and stay the same."""
    config = night.config
    before = earlier_lists(night.home.lists, night.run_date)
    settings = {
        "explanations": config.recommend.explanations.model_dump(mode="json"),
        "category": config.recommend.diversity.category,
        "seed": config.seed,
        "champion": ruling.content_hash,
        "before": read_publication(before)["content_hash"] if before else None,
    }
    with stage(night, "appraise", settings) as running:

        def build(out: Path, scratch: Path) -> StageFacts:
            tonight = open_tonight(night, cleaned, features, episodes, ruling, scratch)
            drawn = drawn_lists(shards_in(lists.path / LISTS), config.seed)
            figures = list_figures(tonight, drawn)
            figures.write_parquet(out / LIST_METRICS)
            judged = judge_reasons(
                tonight.bundle.learner,
                tonight.translation.audience,
                len(tonight.bundle.catalogue),
                config.recommend.explanations,
                config.seed,
            )
            told = [judged.metrics]
            if before is not None:
                former = lists_of(shards_in(before / LISTS), drawn[Columns.USER])
                told.append(stability(drawn, former))
            explained = pl.concat(told)
            explained.write_parquet(out / EXPLANATIONS)
            judged.curves.write_parquet(out / CURVES)
            return StageFacts(
                rows_in=len(drawn),
                facts={
                    "lists": _numbers(figures.filter(pl.col("segment") == EVERYONE)),
                    "explanations": _numbers(explained),
                },
            )

        output = running.build(build, inputs=[cleaned, features, episodes, lists])
        night.tracked.log_metrics({name: output.facts[name] for name in ("lists", "explanations")})
    return output


def _numbers(figures: pl.DataFrame) -> dict[str, float]:
    rows = figures.drop_nulls("value")
    return dict(zip(rows["metric"], rows["value"], strict=True))
