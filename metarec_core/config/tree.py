"""The one tree of settings: the flow's parameter, the YAML file and ``--set`` all fill it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from metarec_core.calibration.settings import CalibrationConfig
from metarec_core.config.recommend import RecommendConfig
from metarec_core.learners.average import Average, AverageConfig
from metarec_core.learners.registry import LEARNERS, LearnerSettings, learner_names
from metarec_core.ranking.memory import MEMORY_PATTERN
from metarec_core.ranking.similar import SimilarConfig
from metarec_core.section import Section

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


def _require_known(learners: tuple[str, ...]) -> None:
    unknown = [name for name in learners if name not in learner_names()]
    if unknown:
        raise ValueError(f"unknown learners {unknown}; wanted names out of {list(learner_names())}")
    if len(set(learners)) != len(learners):
        raise ValueError(f"learners {list(learners)} name one twice; wanted each once")


class DatasetConfig(Section):
    """Which dataset is read, and from where."""

    name: str = Field("ml-100k", min_length=1, max_length=200)
    """Name of a bundled descriptor (``metarec data list``) or path of a descriptor in YAML."""

    path: str | None = Field(None, max_length=4096)
    """Directory that holds the dataset's files; empty: the descriptor's own, or the fetched one."""


class ValidationConfig(Section):
    """When raw data is refused."""

    max_unparsable_fraction: Fraction = 0.0
    """Share of source rows that may be unparsable; those rows are dropped and counted."""

    max_named_rows: int = Field(20, ge=1, le=1000)
    """How many offending rows a message and a report name."""

    freshness: bool = True
    """Judge the age of the newest interaction, where the descriptor states a limit."""


class CleaningConfig(Section):
    """How raw tables become clean ones."""

    duplicates: Literal["last", "first", "mean"] = "last"
    """Which row of a repeated (user, item) pair is kept: by time then source row, or their mean."""

    min_user_interactions: int = Field(1, ge=1, le=1000)
    """Users with fewer are dropped from the interactions (k-core together with the next one)."""

    min_item_interactions: int = Field(1, ge=1, le=1000)
    """Items with fewer are dropped from the interactions; both are repeated until none is left."""

    memory_limit: str = Field("2GB", pattern=MEMORY_PATTERN)
    """Memory that DuckDB may use before it spills to disk."""

    threads: int = Field(2, ge=1, le=256)
    """Threads of DuckDB."""


class EpisodesConfig(Section):
    """How users become tasks."""

    validation_fraction: float = Field(0.1, gt=0.0, lt=0.5)
    """Share of users whose tasks choose epoch and settings."""

    test_fraction: float = Field(0.1, gt=0.0, lt=0.5)
    """Share of users whose tasks judge the challenger; never trained on."""

    order: Literal["random", "time"] = "random"
    """``random``: a user's interactions are cut into support and query at random; ``time``: a
    support is what came first, a query what came later, so that learners are trained and judged on
    the future. Interactions need times."""

    min_task_interactions: int = Field(5, ge=2, le=1000)
    """Users with fewer interactions choose and judge nothing; training learns from everyone."""

    max_support: int = Field(64, ge=1, le=4096)
    """Largest support set sampled in training."""

    max_query: int = Field(64, ge=1, le=4096)
    """Largest query set sampled in training and judged in evaluation."""

    support_sizes: tuple[Annotated[int, Field(ge=0, le=4096)], ...] = Field(
        (0, 1, 2, 5, 10, 20, 50), min_length=1, max_length=20
    )
    """Support sizes at which tasks are evaluated."""

    min_tasks: int = Field(10, ge=2)
    """Fewest tasks that each of train, validation and test must have."""


class TrainingConfig(Section):
    """Which learners are trained, and on what."""

    learners: tuple[str, ...] = Field(
        (*AverageConfig().members, Average.name),
        min_length=1,
    )
    """Learners to train, by name; the last one is the challenger, the others its baselines."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where tensors live; ``auto`` takes a GPU when there is one."""

    threads: int = Field(1, ge=1, le=256)
    """Threads of PyTorch. More pay for catalogues of tens of thousands on an idle machine; two on
    two busy cores made ML-100K seven times slower."""

    @model_validator(mode="after")
    def _known_learners(self) -> TrainingConfig:
        _require_known(self.learners)
        return self


class GateConfig(Section):
    """When the champion changes."""

    resamples: int = Field(2000, ge=100, le=100_000)
    """Bootstrap resamples of the test users."""

    confidence: float = Field(0.95, gt=0.5, lt=1.0)
    """Level of every paired interval."""

    champion_tolerance: float = Field(0.0, ge=0.0, le=0.1)
    """Relative loss against the champion that is still 'not worse'."""


class BenchmarkConfig(Section):
    """How learners are compared with published figures and with baselines (metarec benchmark)."""

    protocol: Literal["p1", "p2", "p3", "p4", "p5"] = "p2"
    """``p1``: ratings of cold users and items; ``p2``: lists of cold users; ``p3``: five of ten
    items, as in MetaRec; ``p4``: the future; ``p5``: cold items."""

    data: str = Field("../shared/data", min_length=1, max_length=4096)
    """Directory with a folder a dataset (``ml-1m``, ``ml-latest-small``)."""

    learners: tuple[str, ...] = Field((), max_length=50)
    """Learners to compare, by name; empty: all."""

    seeds: tuple[Annotated[int, Field(ge=0, le=2**31 - 1)], ...] = Field(
        (1,), min_length=1, max_length=50
    )
    """Seeds of shuffles, splits and learners; figures are means over them."""

    shuffles: int = Field(5, ge=1, le=100)
    """Shuffles of each user in ``p1``, at no more fits."""

    splits: int = Field(20, ge=1, le=200)
    """Splits of the users in ``p3``, each with fits of its own."""

    resamples: int = Field(2000, ge=100, le=100_000)
    """Bootstrap resamples of the users."""

    confidence: float = Field(0.95, gt=0.5, lt=1.0)
    """Level of the paired intervals."""

    @model_validator(mode="after")
    def _known_learners(self) -> BenchmarkConfig:
        _require_known(self.learners)
        return self


class TuneConfig(Section):
    """How settings of a learner are sought (metarec tune)."""

    learner: str = "amortised"
    """Learner whose settings are sought, by name; where to look stands beside its settings."""

    metric: Literal["ndcg_at_10", "mae"] = "ndcg_at_10"
    """What the winner is best in, on validation users: lists, or forecasts of values."""

    trials: int = Field(30, ge=1, le=10_000)
    """Trials of the study, those that were stopped early included; more of them go on with it."""

    timeout_minutes: float | None = Field(None, gt=0.0, le=10_080.0)
    """Minutes after which no trial begins; empty: no limit. The next run goes on."""

    prune_after_trials: int = Field(5, ge=1, le=1000)
    """Completed trials before one is stopped for being behind their median."""

    prune_after_epochs: int = Field(5, ge=0, le=10_000)
    """Epochs of a trial before it is stopped."""

    @field_validator("learner")
    @classmethod
    def _with_a_space(cls, name: str) -> str:
        searched = [known for known, kind in LEARNERS.items() if kind.Config.search]
        if name not in searched:
            why = "has no search space" if name in LEARNERS else "is unknown"
            raise ValueError(f"learner {name!r} {why}; wanted one of {searched}")
        return name


class TransferConfig(Section):
    """How one dataset starts the learner of another (metarec transfer)."""

    source: str = Field("ml-1m", min_length=1, max_length=200)
    """Dataset that teaches: name of a bundled descriptor or path of one in YAML."""

    target: str = Field("ml-latest-small", min_length=1, max_length=200)
    """Dataset that is started."""

    data: str = Field("../shared/data", min_length=1, max_length=4096)
    """Directory with a folder a dataset, named like it."""

    learner: Literal["amortised", "content"] = "amortised"
    """Learner that is fitted on both; its settings are those of ``learners``."""

    fractions: tuple[Annotated[float, Field(gt=0.0, le=1.0)], ...] = Field(
        (0.05, 0.1, 0.25, 1.0), min_length=1, max_length=20
    )
    """Shares of the target's users, the test users aside, that are learned from."""

    seeds: tuple[Annotated[int, Field(ge=0, le=2**31 - 1)], ...] = Field(
        (1, 2, 3), min_length=1, max_length=50
    )
    """Seeds of the draw of those users, of the test users' supports, and of the learners."""

    match_items: bool = True
    """Whether an item of the same title (without case, accents, punctuation) is the same item:
    also judged without it."""

    learning_rate: float = Field(0.3, gt=0.0, le=1.0)
    """Largest step size of a started learner, as a share of the learner's own."""

    epochs: int = Field(20, ge=1, le=10_000)
    """Epochs of a started learner; from scratch it has its own."""

    popularity_users: float = Field(50.0, ge=0.0, le=1e6)
    """Users of the target that the choices of all source users count for in popularity."""

    test_fraction: float = Field(0.2, gt=0.0, lt=0.9)
    """Share of the target's users who judge, by a hash of their ids: the same ones always."""

    validation_fraction: float = Field(0.2, gt=0.0, lt=0.9)
    """Share of the users that are learned from who choose the epoch, at least three."""

    min_item_interactions: int = Field(5, ge=1, le=1000)
    """Items of the target with fewer interactions, test users aside, are not ranked."""

    support_sizes: tuple[Annotated[int, Field(ge=0, le=100)], ...] = Field(
        (1, 5, 10), min_length=1, max_length=20
    )
    """How many positives of a test user are known; as many as the most are reserved."""

    resamples: int = Field(2000, ge=100, le=100_000)
    """Bootstrap resamples of the test users."""

    confidence: float = Field(0.95, gt=0.5, lt=1.0)
    """Level of the paired intervals."""


class RetentionConfig(Section):
    """What is kept of old nights."""

    outputs: int = Field(14, ge=1, le=10_000)
    """Outputs of each stage that are kept, the last used ones; lists, models and runs all stay."""


class Config(Section):
    """Every setting of a night."""

    dataset: DatasetConfig = DatasetConfig()
    """Dataset."""
    seed: int = Field(7, ge=0, le=2**31 - 1)
    """Seed of every random choice."""
    validation: ValidationConfig = ValidationConfig()
    """Validation of raw data."""
    cleaning: CleaningConfig = CleaningConfig()
    """Cleaning."""
    episodes: EpisodesConfig = EpisodesConfig()
    """Tasks and episodes."""
    training: TrainingConfig = TrainingConfig()
    """Training."""
    learners: LearnerSettings = Field(default_factory=LearnerSettings)
    """Settings of each learner."""
    gate: GateConfig = GateConfig()
    """Gate between challenger and champion."""
    calibration: CalibrationConfig = CalibrationConfig()
    """Warnings about stated uncertainty."""
    recommend: RecommendConfig = RecommendConfig()
    """Recommendation."""
    benchmark: BenchmarkConfig = BenchmarkConfig()
    """Comparison of learners, on request; the night does not read it."""
    tune: TuneConfig = TuneConfig()
    """Search for better settings of a learner, on request; the night does not read it."""
    transfer: TransferConfig = TransferConfig()
    """One dataset starts the learner of another, on request; the night does not read it."""
    similar: SimilarConfig = SimilarConfig()
    """Similar items and users, on request; the night does not read it."""
    retention: RetentionConfig = RetentionConfig()
    """What is kept."""
