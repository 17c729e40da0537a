"""The night: validate, clean, sample episodes, meta-train, gate, recommend."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from prefect import flow

from metarec_core.config import Config
from metarec_core.reporting.status import RunStatus
from metarec_core.storage import StageOutput
from tasks.appraise import appraise_lists
from tasks.calibration import watch_calibration
from tasks.clean import clean, encode_features
from tasks.diversity import study_diversity
from tasks.episodes import sample_episodes
from tasks.gate import champion_of_dataset, gate, reigning_champion
from tasks.ingest import ingest
from tasks.night import Night, night
from tasks.recommend import declared_rules, recommend_users
from tasks.summary import reported
from tasks.tracking import ChampionRef
from tasks.train import meta_train
from tasks.validate import validate

DEFAULTS = Config()


@flow(name="nightly")
def nightly(config: Config = DEFAULTS, run_date: date | None = None) -> RunStatus:
    """Learn from all interactions and publish a list for every user.

    Args:
        config: Every setting of the night.
        run_date: The night's date; empty: the date for which the run was scheduled.
    """
    with night("nightly", config, run_date) as run, reported(run):
        declared_rules(run)
        data = prepare(run)
        trained = meta_train(run, data.raw, data.features, data.episodes)
        champion = gate(run, data.cleaned, data.features, data.episodes, trained)
        publish_lists(run, data, champion)
    return run.status


@flow(name="train")
def train(config: Config = DEFAULTS, run_date: date | None = None) -> RunStatus:
    """Everything up to the gate: the champion may change, the published lists do not.

    Args:
        config: Every setting of the run.
        run_date: The run's date; empty: the date for which it was scheduled.
    """
    with night("train", config, run_date) as run, reported(run):
        data = prepare(run)
        trained = meta_train(run, data.raw, data.features, data.episodes)
        gate(run, data.cleaned, data.features, data.episodes, trained)
    return run.status


@flow(name="recommend")
def recommend(config: Config = DEFAULTS, run_date: date | None = None) -> RunStatus:
    """Fresh lists from the present champion and today's interactions; trains nothing.

    Args:
        config: Every setting of the run.
        run_date: The run's date; empty: the date for which it was scheduled.
    """
    with night("recommend", config, run_date) as run, reported(run):
        champion = reigning_champion(run)
        data = prepare(run)
        watch_calibration(run, data.cleaned, data.features, data.episodes, champion)
        publish_lists(run, data, champion)
    return run.status


@dataclass(frozen=True, slots=True)
class Prepared:
    """Validated and cleaned data, ready to learn from."""

    raw: StageOutput
    cleaned: StageOutput
    features: StageOutput
    episodes: StageOutput


def publish_lists(run: Night, data: Prepared, champion: ChampionRef) -> None:
    """The stages that every flow with lists ends with."""
    files = (data.cleaned, data.features, data.episodes)
    study = study_diversity(run, *files, champion)
    lists = recommend_users(run, *files, champion, study)
    appraise_lists(run, *files, champion, lists)


def prepare(run: Night) -> Prepared:
    """The stages that every flow begins with."""
    raw = ingest(run)
    champion_of_dataset(run)
    validate(run, raw, raw, "raw")
    cleaned = clean(run, raw)
    validate(run, raw, cleaned, "clean")
    features = encode_features(run, raw, cleaned)
    episodes = sample_episodes(run, raw, cleaned, features)
    return Prepared(raw, cleaned, features, episodes)
