"""The champion, and tonight's users and items in its words, for the stages that make lists."""

from __future__ import annotations

from pathlib import Path

import torch

from metarec_core.serving.tonight import Tonight
from metarec_core.storage import StageOutput
from metarec_core.training.device import pick_device
from tasks.night import Night
from tasks.tracking import ChampionRef, download_bundle


def open_tonight(
    night: Night,
    cleaned: StageOutput,
    features: StageOutput,
    episodes: StageOutput,
    ruling: ChampionRef,
    scratch: Path,
    *,
    threads: int | None = None,
) -> Tonight:
    """Fetch the champion and read what the stages left.

    Args:
        night: The night.
        cleaned: Tonight's users, items and interactions.
        features: Their features.
        episodes: Their split.
        ruling: The champion.
        scratch: Where its files go, to ``BUNDLE``.
        threads: Threads of a product; those of training by default.

    Raises:
        ModelError: If the model cannot be read, or knows none of tonight's items.
        StorageError: If its files cannot be fetched.
        ConfigError: If no feature can give the categories that are set.
    """
    torch.set_num_threads(night.config.training.threads if threads is None else threads)
    return Tonight.load(
        download_bundle(night.store, ruling, scratch),
        cleaned=cleaned.path,
        features=features.path,
        episodes=episodes.path,
        config=night.config.recommend,
        device=pick_device(night.config.training.device),
    )
