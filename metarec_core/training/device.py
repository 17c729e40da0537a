"""Where tensors live."""

from __future__ import annotations

import torch

from metarec_core.errors import ConfigError


def pick_device(setting: str) -> torch.device:
    """The device that ``training.device`` asks for; ``auto`` takes a GPU when there is one.

    Raises:
        ConfigError: If a GPU is asked for by name and there is none.
    """
    has_gpu = torch.cuda.is_available()
    if setting == "auto":
        return torch.device("cuda" if has_gpu else "cpu")
    if setting == "cuda" and not has_gpu:
        raise ConfigError(
            "setting training.device",
            found="'cuda', and PyTorch sees no GPU",
            wanted="'auto' or 'cpu' on this machine",
            next_step="choose one of them, or install a PyTorch build and driver for the GPU",
        )
    return torch.device(setting)
