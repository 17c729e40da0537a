"""Settings: one frozen tree, its loader and its base section."""

from metarec_core.calibration.settings import CalibrationConfig
from metarec_core.config.load import load_config, parse_config, read_tree
from metarec_core.config.recommend import RecommendConfig
from metarec_core.config.tree import (
    BenchmarkConfig,
    CleaningConfig,
    Config,
    DatasetConfig,
    EpisodesConfig,
    GateConfig,
    RetentionConfig,
    TrainingConfig,
    TransferConfig,
    TuneConfig,
    ValidationConfig,
)
from metarec_core.section import Section

__all__ = [
    "BenchmarkConfig",
    "CalibrationConfig",
    "CleaningConfig",
    "Config",
    "DatasetConfig",
    "EpisodesConfig",
    "GateConfig",
    "RecommendConfig",
    "RetentionConfig",
    "Section",
    "TrainingConfig",
    "TransferConfig",
    "TuneConfig",
    "ValidationConfig",
    "load_config",
    "parse_config",
    "read_tree",
]
