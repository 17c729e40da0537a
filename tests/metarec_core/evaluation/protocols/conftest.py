"""The small set in the files of MovieLens 1M, read and cleaned."""

from __future__ import annotations

from pathlib import Path

import pytest

from metarec_core.config import BenchmarkConfig, CleaningConfig
from metarec_core.evaluation.protocols.corpus import Corpus, read_corpus


@pytest.fixture(scope="session")
def corpus(small_ml_1m: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    scratch = tmp_path_factory.mktemp("corpus")
    return read_corpus("ml-1m-content", small_ml_1m / "ml-1m", scratch, CleaningConfig(threads=1))


@pytest.fixture(scope="session")
def config() -> BenchmarkConfig:
    return BenchmarkConfig(resamples=200)
