"""A learner's figures on evaluation tasks, one row a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import polars as pl
import torch
from torch import Tensor

from metarec_core.calibration.relevance import RelevanceCalibration
from metarec_core.episodes.batch import EvaluationBatch, JudgedTasks
from metarec_core.episodes.types import Episode, Support
from metarec_core.errors import ModelError
from metarec_core.evaluation import metrics
from metarec_core.evaluation.measures import NIGHTLY, Answers, Measure
from metarec_core.learners.base import Predictor
from metarec_core.schema import Columns, segment

HEAD = 10
"""Places of each ranking that are kept."""


def task_schema(measures: Sequence[Measure] = NIGHTLY) -> pl.Schema:
    """Columns of one evaluated task.

    ``user`` is the row index in the task data; ``n_relevant`` counts the targets; ``top_10`` holds
    the catalogue indices of the head of the ranking, best first.
    """
    return pl.Schema(
        {
            "learner": pl.String(),
            "user": pl.Int64(),
            Columns.SUPPORT_SIZE: pl.Int64(),
            Columns.SEGMENT: pl.String(),
            "n_query": pl.Int64(),
            "n_relevant": pl.Int64(),
            **{measure.name: pl.Float64() for measure in measures},
            "top_10": pl.List(pl.Int32()),
            "catalogue_size": pl.Int64(),
        }
    )


TASK_SCHEMA = task_schema()
"""One evaluated task of a night."""

PAIRS = {
    "probability": pl.List(pl.Float64()),
    "uncalibrated": pl.List(pl.Float64()),
    "relevant": pl.List(pl.Boolean()),
}
"""Columns that a ``threshold`` adds: of each query pair the stated probability that its value
exceeds the threshold, that of the normal forecast as it is, and whether it does."""

_CELLS_AT_ONCE = 2**22
"""Scores held at a time (users x catalogue); about 150 MB with the keys that order them."""


class Adaptable(Protocol):
    """What evaluation needs of a learner."""

    @property
    def name(self) -> str:
        """Its name in tables and figures."""
        ...

    def adapt(self, support: Support) -> Predictor:
        """Learn a batch of users from their supports."""
        ...


def evaluate(
    learner: Adaptable,
    tasks: JudgedTasks,
    *,
    device: torch.device,
    batch_size: int = 512,
    name: str | None = None,
    measures: Sequence[Measure] = NIGHTLY,
    threshold: float | None = None,
    relevance: RelevanceCalibration | None = None,
) -> pl.DataFrame:
    """Adapt a learner to each task's support and judge it on the task's query.

    Errors and calibration are those of the query values. What competes in a ranking, and which
    items are its targets, the tasks say (see :class:`~metarec_core.episodes.batch.
    EvaluationBatch`). Where only the query items compete they stand in the order of their
    forecasts, or of their list scores from a learner that forecasts nothing.

    Args:
        learner: A fitted learner, or a champion aligned to this catalogue.
        tasks: The tasks; the same for each learner that is to be compared.
        device: Where tensors live.
        batch_size: Most tasks scored at once; large catalogues lower it.
        name: Name in the ``learner`` column; the learner's own by default.
        measures: What is measured.
        threshold: Where relevance begins, for the columns of :data:`PAIRS`; None for none.
        relevance: Calibration of the learner, by which it states probabilities; None: those of
            its normal forecasts as they are.

    Returns:
        A frame of :func:`task_schema`, sorted by support size and user. Figures are null, not
        zero, where they do not exist: errors of a learner that predicts no value for some query
        item, ranking of a task without a target.

    Raises:
        ModelError: If a list score is NaN.
    """
    label = name if name is not None else learner.name
    schema = task_schema(measures)
    if threshold is not None:
        schema = pl.Schema({**schema, **PAIRS})
    size = max(1, min(batch_size, _CELLS_AT_ONCE // max(1, tasks.n_items)))
    judge = _Judge(learner, label, device, measures, threshold, relevance)
    parts = [judge.frame(batch) for batch in tasks.batches(size)]
    if not parts:
        return schema.to_frame()
    frame = pl.concat(parts).with_columns(
        pl.col(*(measure.name for measure in measures)).fill_nan(None),
        learner=pl.lit(label),
        catalogue_size=pl.lit(tasks.n_items, dtype=pl.Int64),
    )
    return (
        frame.select(pl.col(column).cast(kind) for column, kind in schema.items())
        .sort(Columns.SUPPORT_SIZE, "user")
        .rechunk()
    )


class _Judge:
    """One learner, measured batch by batch."""

    def __init__(
        self,
        learner: Adaptable,
        label: str,
        device: torch.device,
        measures: Sequence[Measure],
        threshold: float | None,
        relevance: RelevanceCalibration | None,
    ) -> None:
        self._learner = learner
        self._label = label
        self._device = device
        self._measures = measures
        self._places = max([HEAD, *(measure.places for measure in measures)])
        self._threshold = threshold
        self._relevance = relevance

    def frame(self, batch: EvaluationBatch) -> pl.DataFrame:
        """Figures of the tasks of a batch."""
        answers = self._answers(batch)
        sizes = np.asarray(batch.support_size, dtype=np.int64)
        columns = {
            "user": np.asarray(batch.users, dtype=np.int64),
            Columns.SUPPORT_SIZE: sizes,
            Columns.SEGMENT: [segment(size) for size in sizes.tolist()],
            "n_query": _array(answers.mask.sum(dim=1)),
            "n_relevant": _array(answers.n_targets),
            "top_10": _array(answers.top[:, :HEAD].to(torch.int32)),
            **{measure.name: _array(measure.compute(answers)) for measure in self._measures},
        }
        if self._threshold is not None:
            columns |= _pairs(answers, sizes, self._threshold, self._relevance)
        # A fixed-width array becomes a list whose length may differ between catalogues.
        return pl.DataFrame(columns, schema_overrides={"top_10": pl.List(pl.Int32()), **PAIRS})

    def _answers(self, batch: EvaluationBatch) -> Answers:
        episode = batch.episode.to(self._device)
        targets = batch.targets.to(self._device)
        predictor = self._learner.adapt(episode.support)
        with torch.no_grad():
            mean, variance = predictor.mean_var(episode.items)
            scores = predictor.scores(episode.items) if self._relevance is not None else None
            top = (
                self._among_query(predictor, mean, episode, batch)
                if batch.excluded is None
                else self._among_catalogue(predictor, batch.excluded, batch)
            )
        return Answers(
            top=top,
            hits=metrics.hits(top, episode.items, targets),
            n_targets=targets.sum(dim=1),
            items=episode.items,
            values=episode.values,
            mask=episode.mask,
            mean=mean,
            variance=variance,
            scores=scores,
        )

    def _among_catalogue(
        self, predictor: Predictor, excluded: Tensor, batch: EvaluationBatch
    ) -> Tensor:
        scores = self._sound(predictor.scores())
        order = None
        if batch.tie_seed is not None:
            users = torch.from_numpy(batch.users).to(self._device)
            catalogue = torch.arange(scores.shape[1], device=self._device)
            order = metrics.chance_order(users, catalogue, batch.tie_seed)
        return metrics.top_items(scores, excluded.to(self._device), self._places, order)

    def _among_query(
        self, predictor: Predictor, mean: Tensor, episode: Episode, batch: EvaluationBatch
    ) -> Tensor:
        forecast = not (mean.isnan() & episode.mask).any()
        scores = mean if forecast else self._sound(predictor.scores(episode.items))
        order = metrics.chance_order(episode.users, episode.items, batch.tie_seed or 0)
        padding = ~episode.mask
        places = metrics.top_items(scores.masked_fill(padding, 0.0), padding, self._places, order)
        # Padding comes last and holds no item of the catalogue.
        items = episode.items.masked_fill(padding, -1)
        return items.gather(1, places)

    def _sound(self, scores: Tensor) -> Tensor:
        if scores.isnan().any():
            raise ModelError(
                f"learner {self._label!r}",
                found="NaN among its list scores",
                wanted="a number for each catalogue item",
                next_step="look at its training curves for divergence; lower its learning rate",
            )
        return scores


def _pairs(
    answers: Answers,
    sizes: np.ndarray,
    threshold: float,
    relevance: RelevanceCalibration | None,
) -> dict[str, pl.Series]:
    raw = _array(metrics.relevance_probability(answers.mean, answers.variance, threshold))
    stated = raw
    if relevance is not None and answers.scores is not None:
        stated = relevance.p_relevant(
            mean=_array(answers.mean),
            variance=_array(answers.variance),
            scores=_array(answers.scores),
            support_sizes=sizes,
        )
    came, masks = _array(answers.values > threshold), _array(answers.mask)
    return {
        name: pl.Series([row[mask] for row, mask in zip(table, masks, strict=True)], dtype=kind)
        for (name, kind), table in zip(PAIRS.items(), (stated, raw, came), strict=True)
    }


def _array(values: Tensor) -> np.ndarray:
    return values.cpu().numpy()
