"""The same seed gives the same bits, also with several threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Let PyTorch take only algorithms that give the same bits in every run, inside the block.

    With two threads the gradient of an index adds up in whatever order threads arrive; after a
    few epochs that is visible in the lists. On a GPU an operation that has no such algorithm is
    a warning, not an error. Memory is not filled before it is written to, which costs a twentieth
    of the time: no operation here reads what it has not written.
    """
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=device.type != "cpu")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
        torch.use_deterministic_algorithms(before, warn_only=warned)
