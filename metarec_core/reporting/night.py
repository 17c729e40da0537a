"""What a night did, as one record: its summary and its status are made from it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Literal, Self

import polars as pl
from pydantic import BaseModel, ConfigDict

from metarec_core.errors import MetarecError
from metarec_core.evaluation.verdict import Verdict


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class StageRecord(_Record):
    """One stage of a night."""

    name: str
    state: Literal["completed", "failed", "not run"]
    seconds: float | None = None
    """Time this run spent on it."""
    reused: bool = False
    """Whether an earlier run had built the same output."""
    rows_in: int | None = None
    rows_out: int | None = None


class RowsByReason(_Record):
    """Rows that one rule dropped or changed."""

    table: str
    reason: str
    action: str
    """What was done to them, such as ``dropped`` or ``changed``."""
    rows: int


class Warned(_Record):
    """An expectation that did not hold and did not stop the night."""

    table: str
    expectation: str
    """What was expected, in words."""
    found: str
    """What was found instead, with a few offending rows."""


class MetricFigure(_Record):
    """A row of the long frame of ``summarise``."""

    learner: str
    support_size: str
    metric: str
    value: float | None
    se: float | None
    n: int

    @classmethod
    def from_frame(cls, summary: pl.DataFrame) -> tuple[Self, ...]:
        """Every row of the frame, in its order."""
        return tuple(cls.model_validate(row) for row in summary.iter_rows(named=True))


class Failure(_Record):
    """What stopped a night."""

    stage: str
    kind: str
    """Class of the error."""
    text: str
    next_step: str | None = None

    @classmethod
    def from_error(cls, stage: str, error: BaseException) -> Self:
        """The record of an error; one that metarec raised on purpose brings its next step."""
        if isinstance(error, MetarecError):
            text = f"{error.subject}: found {error.found}; wanted {error.wanted}."
            return cls(stage=stage, kind=type(error).__name__, text=text, next_step=error.next_step)
        return cls(stage=stage, kind=type(error).__name__, text=str(error))


class Links(_Record):
    """Where to read on: addresses or paths; null where there is none."""

    prefect_run: str | None = None
    mlflow_run: str | None = None
    lists: str | None = None
    data_docs: str | None = None
    summary: str | None = None
    report: str | None = None


class NightSummary(_Record):
    """A whole night, completed or failed."""

    run_date: date
    state: Literal["completed", "failed"]
    dataset: str
    stages: tuple[StageRecord, ...] = ()
    """In the order in which they run."""
    changes: tuple[RowsByReason, ...] = ()
    """The account of cleaning."""
    warnings: tuple[Warned, ...] = ()
    verdict: Verdict | None = None
    """Null when the night ended before the gate, or has none."""
    metrics: tuple[MetricFigure, ...] = ()
    champion_version: str | None = None
    """Version of the registered model that is champion at the end of the night."""
    champion_moved: bool = False
    """Whether the alias moved, also in a night that failed later."""
    lists_published: bool = False
    """Whether new lists were published, also in a night that failed later."""
    overhead_seconds: float | None = None
    """Wall time of the flow that no stage used."""
    failure: Failure | None = None
    links: Links = Links()
    versions: Mapping[str, str] = {}
    """Version of code and libraries, by name."""
