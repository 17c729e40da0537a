"""What the page is made from: the night's summary, and frames that other stages measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from metarec_core.errors import StorageError
from metarec_core.reporting.html.profile import ListsProfile
from metarec_core.reporting.night import NightSummary

FRAMES: dict[str, tuple[str, ...]] = {
    "frontier": ("method", "strength", "metric", "value", "n_users", "loss_se"),
    "list_metrics": ("metric", "value"),
    "reliability": ("learner", "segment", "pairs", "stated", "observed"),
    "explanations": ("metric", "value"),
    "explanation_curves": ("curve", "removed", "value"),
}
"""Columns that each measured frame has, at least; its file is ``<name>.parquet``."""


@dataclass(frozen=True, slots=True)
class ChosenPoint:
    """Method and strength of the re-ranking of the published lists."""

    method: str
    strength: float


@dataclass(frozen=True, slots=True)
class NightReport:
    """Everything the page shows; what is None has no section.

    Attributes:
        night: What the night did.
        frontier: Accuracy and diversity by method and strength (``FRONTIER_SCHEMA``).
        chosen: The point of the frontier that the published lists were made with.
        list_metrics: Figures of the published lists; ``segment`` may tell users apart.
        reliability: Stated probability and observed share by segment and bin
            (``RELIABILITY_SCHEMA``).
        learner: Whose reliability is shown: the model in service. Where the frame lacks it, that
            of the frame's last learner.
        explanations: Figures of the reasons.
        explanation_curves: Score or rank as reasons are removed or inserted.
        lists: What the published lists look like.
    """

    night: NightSummary
    frontier: pl.DataFrame | None = None
    chosen: ChosenPoint | None = None
    list_metrics: pl.DataFrame | None = None
    reliability: pl.DataFrame | None = None
    learner: str | None = None
    explanations: pl.DataFrame | None = None
    explanation_curves: pl.DataFrame | None = None
    lists: ListsProfile | None = field(default=None)


def find_frame(name: str, directories: Iterable[Path]) -> pl.DataFrame | None:
    """The frame ``name`` of the last directory that holds it.

    Args:
        name: Out of :data:`FRAMES`.
        directories: Outputs of stages, in the order in which they ran.

    Raises:
        StorageError: If its file cannot be read or lacks a column.
    """
    found = [path for place in directories if (path := place / f"{name}.parquet").is_file()]
    if not found:
        return None
    wanted = FRAMES[name]
    try:
        frame = pl.read_parquet(found[-1])
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _unreadable(found[-1], type(error).__name__, wanted) from error
    missing = [column for column in wanted if column not in frame.columns]
    if missing:
        raise _unreadable(found[-1], f"no column {', '.join(missing)}", wanted)
    return frame


def _unreadable(path: Path, found: str, wanted: tuple[str, ...]) -> StorageError:
    return StorageError(
        f"figures {path}",
        found=found,
        wanted=f"Parquet with the columns {', '.join(wanted)}",
        next_step="remove the stage's directory; the next run builds it anew",
    )
