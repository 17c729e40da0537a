"""Lists for every user from the champion, judged before they are published."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import prefect.runtime
from prefect import task
from prefect.logging import get_run_logger

from metarec_core.ranking.diversity.settings import DiversityConfig
from metarec_core.ranking.diversity.taste import liked_from
from metarec_core.ranking.lists import rank
from metarec_core.ranking.publication import LISTS, publish
from metarec_core.ranking.request import Diversity
from metarec_core.ranking.rules import Rules, load_rules
from metarec_core.ranking.shards import ShardFact, hand_over, write_shards
from metarec_core.ranking.short_lists import SHORT_LISTS, users_without_list
from metarec_core.ranking.sinks.base import Sink
from metarec_core.ranking.sinks.open import open_sinks
from metarec_core.serving.bundle import CATALOGUE
from metarec_core.serving.plan import compiled_rules, list_settings
from metarec_core.serving.tonight import Tonight
from metarec_core.storage import StageFacts, StageOutput
from tasks.diversity import chosen_diversity
from tasks.findings import keep, options, read_report, say, warn
from tasks.night import Night
from tasks.progress import told_progress
from tasks.quality import fingerprint, validate_recommendations
from tasks.stage import COMPUTED, stage
from tasks.tonight import open_tonight
from tasks.tracking import BUNDLE, ChampionRef


def declared_rules(night: Night) -> Rules | None:
    """The rules document that is set; also asked before anything is trained.

    Raises:
        ConfigError: If it or its table cannot be read or holds what is no rule.
    """
    path = night.config.recommend.rules
    return load_rules(path) if path else None


@task(name="recommend", **COMPUTED)
def recommend_users(
    night: Night,
    cleaned: StageOutput,
    features: StageOutput,
    episodes: StageOutput,
    ruling: ChampionRef,
    study: StageOutput,
) -> StageOutput:
    """The champion's best open items of every user, published as the run date's lists.

    Raises:
        ConfigError: If rules contradict each other, or leave nothing to anybody.
        ValidationError: If a critical expectation does not hold; nothing is published.
        ServiceError: If a database that lists are copied to cannot be written; nothing is
            published.
    """
    recommend = night.config.recommend
    rules = declared_rules(night)
    diversity = chosen_diversity(study)
    settings = {
        "k": recommend.k,
        "reasons": recommend.reasons,
        "deletions": recommend.deletions,
        "features": recommend.features,
        "counterfactuals": recommend.counterfactuals,
        "rules": rules.digest if rules else None,
        "diversity": diversity.model_dump(mode="json"),
        "seed": night.config.seed,
        "shard_users": recommend.shard_users,
        "run_date": str(night.run_date),
        "champion": ruling.content_hash,
        # Of the report beside the lists.
        "max_named_rows": night.config.validation.max_named_rows,
    }
    with stage(night, "recommend", settings) as running:
        # Before the work: an address that is missing is not to be found out after it.
        sinks = open_sinks(recommend.sinks, night.home.root, os.environ)

        def build(out: Path, scratch: Path) -> StageFacts:
            # Shards run side by side, a thread each: that pays more than threads in a product.
            tonight = open_tonight(night, cleaned, features, episodes, ruling, scratch, threads=1)
            facts = _write_lists(night, tonight, out / LISTS, scratch, rules, diversity)
            _judge(night, cleaned, out, scratch / BUNDLE / CATALOGUE, rules)
            return facts

        inputs = [cleaned, features, episodes]
        output = running.build(build, inputs=inputs, fingerprint=fingerprint())
        if output.reused:
            say(night, read_report(output))
        warn(night, output.facts["rule_findings"])
        place = _publish(night, output, ruling, sinks)
    night.record_paths(lists=str(place / LISTS))
    get_run_logger().info("recommend: published %s", place)
    return output


def _write_lists(
    night: Night,
    tonight: Tonight,
    target: Path,
    scratch: Path,
    rules: Rules | None,
    diversity: DiversityConfig,
) -> StageFacts:
    config, device = night.config, tonight.bundle.device
    bundle, translation = tonight.bundle, tonight.translation
    compiled = None
    if rules is not None:
        compiled = compiled_rules(
            rules,
            bundle,
            translation,
            tonight.items,
            run_date=night.run_date,
            k=config.recommend.k,
        )
    workers = config.training.threads if device.type == "cpu" else 1
    settings = list_settings(
        config.recommend,
        bundle,
        translation,
        diversity=Diversity(diversity, tonight.space, config.seed, liked_from(bundle.scale)),
        rules=compiled,
        workers=workers,
    )
    n_users = tonight.tasks.data.n_users

    def lists_of(start: int, stop: int) -> Iterator[pl.DataFrame]:
        return rank(
            bundle.learner,
            bundle.catalogue,
            translation.audience.part(start, stop),
            settings.part(start, stop),
            run_date=night.run_date,
            device=device,
        )

    done = 0
    with told_progress("lists", key="lists") as tell:

        def on(shard: ShardFact) -> None:
            nonlocal done
            done += shard.stop - shard.start
            state = "found" if shard.reused else "written"
            tell(done, n_users, f"{shard.path.name} {state}, {done:,} of {n_users:,} users")

        shards = write_shards(
            scratch / "shards",
            n_users,
            config.recommend.shard_users,
            lists_of,
            key=scratch.name,  # it bears the stage's key
            workers=workers,
            progress=on,
        )
    hand_over(shards, target)
    nobody = users_without_list(
        [shard.path for shard in shards],
        translation.audience.user_ids,
        compiled.open_counts if compiled else None,
    )
    if len(nobody):
        nobody.write_parquet(target.with_name(SHORT_LISTS))
    return StageFacts(
        rows_in=n_users,
        rows_out=sum(shard.rows for shard in shards),
        facts={
            "users": n_users,
            "shards": len(shards),
            "without_list": len(nobody),
            "scale": asdict(bundle.scale),
            "candidates": len(translation.candidates),
            "unknown_items": translation.unknown_items,
            "ignored_interactions": translation.ignored_interactions,
            "diversity": {"method": diversity.method, "strength": diversity.strength},
            "rule_findings": [finding.message for finding in compiled.findings] if compiled else [],
        },
    )


def _judge(
    night: Night, cleaned: StageOutput, out: Path, catalogue: Path, rules: Rules | None
) -> None:
    short = out / SHORT_LISTS
    report = validate_recommendations(
        out / LISTS,
        home=night.home,
        clean=cleaned.path,
        catalogue=catalogue,
        k=night.config.recommend.k,
        run_date=night.run_date,
        ruled=rules is not None,
        consumed_after_days=rules.document.consumed_after_days if rules else None,
        short_lists=short if short.exists() else None,
        options=options(night),
    )
    keep(report, out)
    say(night, report)
    report.raise_if_critical()


def _publish(night: Night, output: StageOutput, ruling: ChampionRef, sinks: Sequence[Sink]) -> Path:
    flow_run_id: str | None = prefect.runtime.flow_run.id
    return publish(
        night.home.lists,
        output,
        run_id=night.run_id,
        run_date=night.run_date,
        today=datetime.now(UTC).astimezone().date(),
        origin={
            "mlflow_run_id": night.tracked.run_id,
            "prefect_flow_run_id": str(flow_run_id) if flow_run_id else None,
            "prefect_flow_run": night.status.paths.prefect,
            "model": {
                "uri": ruling.uri,
                "version": ruling.version,
                "dataset": ruling.dataset,
                "learner": ruling.learner,
                "content_hash": ruling.content_hash,
                "trained_for": ruling.run_date,
            },
        },
        model_version=str(ruling.version),
        sinks=sinks,
    )
