"""A training run's whole state on disk: weights, averages, optimiser, random generators."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Restored:
    """What a checkpoint holds beside the objects it was restored into."""

    progress: dict[str, Any]
    best: dict[str, Tensor]


class Checkpoint:
    """Saves and restores the objects of one training run.

    Args:
        path: The file; None keeps no checkpoint.
        net: The network in training.
        averaged: Its averaged weights.
        optimizer: Its optimiser.
        rng: Generator of the sampled episodes.
        generator: Generator of the random choices inside the network.
    """

    def __init__(
        self,
        path: Path | None,
        net: nn.Module,
        averaged: nn.Module,
        optimizer: torch.optim.Optimizer,
        rng: np.random.Generator,
        generator: torch.Generator,
    ) -> None:
        self._path = path
        self._parts: dict[str, Any] = {"net": net, "averaged": averaged, "optimizer": optimizer}
        self._rng = rng
        self._generator = generator

    def save(self, progress: dict[str, Any], best: dict[str, Tensor]) -> None:
        """Write everything, whole or not at all."""
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        aside = self._path.with_suffix(".partial")
        state = {name: part.state_dict() for name, part in self._parts.items()}
        # 128-bit integers of the bit generator do not survive; their decimal text does.
        bits = {
            key: {name: str(value) for name, value in item.items()}
            if isinstance(item, dict)
            else str(item)
            for key, item in self._rng.bit_generator.state.items()
        }
        torch.save(
            state
            | {"bits": bits, "generator": self._generator.get_state()}
            | {"progress": progress, "best": best},
            aside,
        )
        aside.replace(self._path)

    def restore(self, device: torch.device) -> Restored | None:
        """Put the saved state into the objects; None where nothing usable was saved."""
        state = self._read(device)
        if state is None:
            return None
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        bits = state["bits"]
        self._rng.bit_generator.state = {
            "bit_generator": bits["bit_generator"],
            "state": {name: int(value) for name, value in bits["state"].items()},
            "has_uint32": int(bits["has_uint32"]),
            "uinteger": int(bits["uinteger"]),
        }
        self._generator.set_state(state["generator"].cpu())
        return Restored(progress=state["progress"], best=state["best"])

    def _read(self, device: torch.device) -> dict[str, Any] | None:
        if self._path is None or not self._path.exists():
            return None
        if not _is_intact(self._path):
            # A disk that failed in the middle: training anew is right, only slower.
            logger.warning("checkpoint %s is damaged: training begins anew", self._path)
            self._path.unlink()
            return None
        state: dict[str, Any] = torch.load(self._path, map_location=device, weights_only=True)
        return state


def _is_intact(path: Path) -> bool:
    """Whether every member of the archive that PyTorch wrote has its checksum."""
    try:
        with ZipFile(path) as archive:
            return archive.testzip() is None
    except (BadZipFile, OSError):
        return False
