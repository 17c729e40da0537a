"""What a night measured, gathered for its HTML report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl
from prefect.logging import get_run_logger

from metarec_core.errors import StorageError
from metarec_core.ranking.publication import LISTS, shards_in
from metarec_core.reporting.html import ChosenPoint, NightReport
from metarec_core.reporting.html.profile import ListsProfile, profile_lists
from metarec_core.reporting.html.record import FRAMES, find_frame
from metarec_core.reporting.night import NightSummary
from tasks.night import Night

CHAMPION = "champion"
"""Name of a champion that stays among tonight's learners, as the gate calls it."""

DIVERSITY = "diversity"
"""Fact of the stage ``recommend``: ``method`` and ``strength`` that its lists were made with."""


def gather(night: Night, summary: NightSummary) -> NightReport:
    """The night's record with every frame that its stages left; one that is damaged is left out."""
    return NightReport(
        summary,
        **dict(_frames(night)),
        chosen=_chosen(night),
        learner=_in_service(summary),
        lists=_profile(night),
    )


def _frames(night: Night) -> Iterator[tuple[str, pl.DataFrame]]:
    places = [output.path for output in night.outputs.values()]
    for name in FRAMES:
        try:
            frame = find_frame(name, places)
        except StorageError as error:
            get_run_logger().warning("report: %s", error)
            continue
        if frame is not None:
            yield name, frame


def _chosen(night: Night) -> ChosenPoint | None:
    made = night.outputs.get("recommend")
    told: dict[str, Any] | None = made.facts.get(DIVERSITY) if made else None
    return ChosenPoint(told["method"], told["strength"]) if told else None


def _in_service(summary: NightSummary) -> str:
    verdict = summary.verdict
    return verdict.winner if verdict is not None and verdict.promoted else CHAMPION


def _profile(night: Night) -> ListsProfile | None:
    made = night.outputs.get("recommend")
    shards = shards_in(made.path / LISTS) if made else []
    without = int(made.facts.get("without_list", 0)) if made else 0
    return profile_lists(shards, without=without) if shards else None
