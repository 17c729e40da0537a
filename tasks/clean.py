"""Clean raw tables; impute and encode features."""

from __future__ import annotations

from prefect import task

from metarec_core.cleaning.clean import clean_tables
from metarec_core.features.build import build_features
from metarec_core.storage import StageOutput
from tasks.ingest import read_descriptor
from tasks.night import Night
from tasks.stage import COMPUTED, stage

ACCOUNTING = "accounting.parquet"


@task(name="clean", **COMPUTED)
def clean(night: Night, raw: StageOutput) -> StageOutput:
    """Clean tables, with an account of every dropped and changed row."""
    config = night.config.cleaning
    settings = config.model_dump(exclude={"memory_limit", "threads"})
    with stage(night, "clean", settings) as running:
        descriptor = read_descriptor(raw)
        return running.build(
            lambda out, _: clean_tables(raw.path, out, descriptor=descriptor, config=config),
            inputs=[raw],
        )


@task(name="features", **COMPUTED)
def encode_features(night: Night, raw: StageOutput, cleaned: StageOutput) -> StageOutput:
    """Imputed and encoded features of users and items, fitted on training users."""
    config = night.config
    settings = {
        "validation_fraction": config.episodes.validation_fraction,
        "test_fraction": config.episodes.test_fraction,
        "seed": config.seed,
    }
    with stage(night, "features", settings) as running:
        descriptor = read_descriptor(raw)
        return running.build(
            lambda out, _: build_features(
                cleaned.path, out, descriptor=descriptor, config=config.episodes, seed=config.seed
            ),
            inputs=[raw, cleaned],
        )
