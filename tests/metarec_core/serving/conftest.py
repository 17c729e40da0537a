from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
import torch

from metarec_core.episodes.types import InteractionMatrix, TaskData, ValueScale
from metarec_core.features.encoder import FeatureEncoder
from metarec_core.features.spec import FeatureSpec
from metarec_core.learners.base import FitContext
from metarec_core.learners.registry import LEARNERS
from metarec_core.schema import FeatureKind, Feedback
from metarec_core.serving.bundle import Bundle

N_USERS, N_ITEMS = 90, 40

SETTINGS = {
    "amortised": {"dim": 8, "hidden": 8, "loop": {"epochs": 2}},
    "content": {"dim": 8, "hidden": 8, "loop": {"epochs": 2}},
    "gaussian": {"taste_dim": 3, "exposure_dim": 4, "hidden": 8, "loop": {"epochs": 2}},
}


@dataclass(frozen=True)
class World:
    """A tiny dataset as the night's stages leave it."""

    users: pl.DataFrame
    catalogue: pl.DataFrame
    data: TaskData
    encoder: FeatureEncoder

    def rows(self, users: list[int]) -> pl.DataFrame:
        """Those users' interactions as a caller would send them."""
        matrix = self.data.interactions
        rows, positions = matrix.entries(np.array(users, dtype=np.int64))
        return pl.DataFrame(
            {
                "user_id": self.users["user_id"].gather(np.array(users)[rows]),
                "item_id": self.catalogue["item_id"].gather(matrix.items[positions]),
                "rating": matrix.values[positions].astype(float),
            }
        )


@pytest.fixture(scope="session")
def world() -> World:
    rng = np.random.default_rng(8)
    counts = rng.integers(0, 20, size=N_USERS)
    items = np.concatenate([np.sort(rng.choice(N_ITEMS, n, replace=False)) for n in counts])
    users = pl.DataFrame(
        {
            "user_id": [f"{row:03d}" for row in range(N_USERS)],
            "age": rng.integers(18, 70, size=N_USERS).astype(float),
            "occupation": rng.choice(["writer", "doctor", "artist"], size=N_USERS),
            "hobbies": [
                rng.choice(["chess", "sailing", "film"], size=n, replace=False).tolist()
                for n in rng.integers(0, 4, size=N_USERS)
            ],
        }
    )
    encoder = FeatureEncoder.fit(
        users,
        {
            "age": FeatureSpec(column="age", kind=FeatureKind.NUMERIC),
            "occupation": FeatureSpec(column="job", kind=FeatureKind.CATEGORICAL),
            "hobbies": FeatureSpec(column="hobbies", kind=FeatureKind.MULTI),
        },
        seed=0,
    )
    return World(
        users=users,
        catalogue=pl.DataFrame(
            {
                "item_id": [f"{100 + item}" for item in range(N_ITEMS)],
                "title": [f"Film {item}, The (19{item + 50})" for item in range(N_ITEMS)],
            }
        ),
        data=TaskData(
            interactions=InteractionMatrix(
                indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
                items=items.astype(np.int64),
                values=rng.integers(1, 6, size=len(items)).astype(np.float32),
            ),
            user_features=encoder.encode(users),
            item_features=rng.normal(size=(N_ITEMS, 3)).astype(np.float32),
            scale=ValueScale(Feedback.EXPLICIT, 1.0, 5.0, 4.0),
        ),
        encoder=encoder,
    )


@pytest.fixture(scope="session")
def bundles(world: World) -> dict[str, Bundle]:
    """A bundle of each learner in the registry."""
    made = {}
    for name, kind in LEARNERS.items():
        learner = kind(kind.Config.model_validate(SETTINGS.get(name, {})))
        learner.fit(world.data, world.data, FitContext(seed=1, device=torch.device("cpu")))
        made[name] = Bundle(learner, name, world.catalogue, world.encoder, world.data.scale, "tiny")
    return made
