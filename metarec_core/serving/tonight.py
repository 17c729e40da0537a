"""A model, and tonight's users and items in its words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch

from metarec_core.config import EpisodesConfig, RecommendConfig
from metarec_core.episodes.sampling import evaluation_episodes
from metarec_core.episodes.split import Split
from metarec_core.episodes.store import Tasks, load_tasks
from metarec_core.episodes.types import TaskData
from metarec_core.features.encoder import FeatureEncoder
from metarec_core.ranking.diversity.frontier import frontier
from metarec_core.ranking.diversity.judged import judged_pools
from metarec_core.ranking.diversity.space import ItemSpace
from metarec_core.ranking.diversity.taste import liked_from
from metarec_core.serving.audience import Translation, audience_of
from metarec_core.serving.bundle import Bundle, load_bundle
from metarec_core.serving.plan import space_of

STUDIED_USERS = 300
"""Validation users that re-ranking is measured on, at every support size: a core takes
about 13 s for as many where every method can be tried, and 5 s where scores have no covariance."""


@dataclass(frozen=True, slots=True)
class Tonight:
    """What lists are made from.

    Attributes:
        bundle: The model.
        tasks: Tonight's tasks, in tonight's words.
        translation: Tonight's users in the model's words.
        items: Imputed items of the features stage.
        space: What is known of the model's items.
    """

    bundle: Bundle
    tasks: Tasks
    translation: Translation
    items: pl.DataFrame
    space: ItemSpace

    @classmethod
    def load(
        cls,
        bundle: Path,
        *,
        cleaned: Path,
        features: Path,
        episodes: Path,
        config: RecommendConfig,
        device: torch.device,
    ) -> Tonight:
        """Read a model and the outputs of stages.

        Raises:
            ModelError: If the model cannot be read, or knows none of tonight's items.
            ConfigError: If no feature of that name can give categories.
        """
        model = load_bundle(bundle, device)
        tasks = load_tasks(episodes, features)
        translation = audience_of(model, tasks, pl.read_parquet(cleaned / "users.parquet"))
        items = pl.read_parquet(features / "items.parquet")
        specs = FeatureEncoder.load(features, "item_encoder").specs
        encoded = tasks.data.item_features
        category = config.diversity.category
        space = space_of(model, translation, items, encoded, specs, category)
        return cls(model, tasks, translation, items, space)

    def frontier(
        self, config: RecommendConfig, episodes: EpisodesConfig, seed: int
    ) -> pl.DataFrame:
        """What every re-ranking costs and brings the validation users.

        Args:
            config: Size of the pool.
            episodes: Support sizes.
            seed: Of the tasks and of every draw.

        Returns:
            ``FRONTIER_SCHEMA``; empty where no validation user has enough interactions.
        """
        audience = self.translation.audience
        data = TaskData(
            audience.histories,
            audience.user_features,
            np.zeros((len(self.bundle.catalogue), 0), dtype=np.float32),
            self.bundle.scale,
        )
        users = self.tasks.users(Split.VALIDATION)
        users = users[audience.histories.counts()[users] >= self.tasks.min_task_interactions]
        rng = np.random.default_rng(seed)
        users = np.sort(rng.choice(users, min(len(users), STUDIED_USERS), replace=False))
        sampled = evaluation_episodes(
            data,
            users,
            support_sizes=episodes.support_sizes,
            max_query=episodes.max_query,
            seed=seed,
            rank_reserved=False,
        )
        device = self.bundle.device
        pools = judged_pools(
            self.bundle.learner,
            sampled,
            size=config.diversity.pool,
            device=device,
            liked_from=liked_from(self.bundle.scale),
        )
        return frontier(pools, self.space, seed=seed)
