"""A published stage and small fitted models, to be tracked and registered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from metarec_core.episodes.types import InteractionMatrix, TaskData, ValueScale
from metarec_core.features.encoder import FeatureEncoder
from metarec_core.features.spec import FeatureSpec
from metarec_core.home import Home
from metarec_core.learners.base import FitContext
from metarec_core.learners.registry import learner_class
from metarec_core.schema import FeatureKind, Feedback
from metarec_core.serving.bundle import Bundle, save_bundle
from metarec_core.storage import StageFacts, StageOutput, build_stage


@pytest.fixture(scope="session")
def stage(tracking_home: Home) -> StageOutput:
    """A published stage with a table of three rows."""

    def build(out: Path, scratch: Path) -> StageFacts:
        frame = pl.DataFrame(
            {"user_id": ["a", "b", "c"], "value": [1.0, 2.0, None], "genres": [["x"], [], None]}
        )
        frame.write_parquet(out / "interactions.parquet")
        return StageFacts(rows_in=5, rows_out=3, facts={"mae": {"support@5": 0.7}, "note": "x"})

    return build_stage(tracking_home, "clean", settings={}, build=build)


N_ITEMS = 30


LEARNERS = ("bias", "popularity")


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Directories of small fitted models, by learner: items "1".."30", users by age and job."""
    root = tmp_path_factory.mktemp("bundles")
    return {name: _bundle(name, root / name, "toy") for name in LEARNERS}


@pytest.fixture(scope="session")
def other_bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same of another dataset's name, hence with other hashes."""
    root = tmp_path_factory.mktemp("other_bundles")
    return {name: _bundle(name, root / name, "other") for name in LEARNERS}


def _bundle(name: str, directory: Path, dataset: str) -> Path:
    generator = np.random.default_rng(7)
    counts = generator.integers(3, 12, size=40)
    items = [np.sort(generator.choice(N_ITEMS, size=count, replace=False)) for count in counts]
    users = pl.DataFrame(
        {
            "user_id": [f"u{row}" for row in range(40)],
            "age": generator.uniform(10, 70, size=40),
            "job": generator.choice(["cook", "judge"], size=40),
        }
    )
    specs = {
        "age": FeatureSpec(column="age", kind=FeatureKind.NUMERIC),
        "job": FeatureSpec(column="job", kind=FeatureKind.CATEGORICAL),
    }
    encoder = FeatureEncoder.fit(users, specs, seed=7)
    scale = ValueScale(Feedback.EXPLICIT, minimum=1.0, maximum=5.0, relevant_from=4.0)
    data = TaskData(
        interactions=InteractionMatrix(
            indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            items=np.concatenate(items).astype(np.int64),
            values=generator.integers(1, 6, size=int(counts.sum())).astype(np.float32),
        ),
        user_features=encoder.encode(users),
        item_features=np.zeros((N_ITEMS, 0), dtype=np.float32),
        scale=scale,
    )
    kind = learner_class(name)
    learner = kind(kind.Config())
    learner.fit(data, data, FitContext(seed=7, device=torch.device("cpu")))
    ids = [str(number) for number in range(1, N_ITEMS + 1)]
    catalogue = pl.DataFrame({"item_id": ids, "title": [f"Film {number}" for number in ids]})
    save_bundle(
        Bundle(
            learner=learner,
            learner_name=name,
            catalogue=catalogue,
            user_encoder=encoder,
            scale=scale,
            dataset=dataset,
        ),
        directory,
    )
    return directory
