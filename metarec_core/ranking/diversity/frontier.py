"""What diversity costs: accuracy and diversity of every method at every strength."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import numpy as np
import polars as pl
import torch

from metarec_core.episodes.types import IntArray
from metarec_core.errors import ConfigError
from metarec_core.evaluation import metrics
from metarec_core.evaluation.diversity import diversity_figures
from metarec_core.ranking.diversity.judged import JudgedPool
from metarec_core.ranking.diversity.loss import relative_loss
from metarec_core.ranking.diversity.pool import BoolArray, DoubleArray
from metarec_core.ranking.diversity.registry import METHODS
from metarec_core.ranking.diversity.rerank import rerank
from metarec_core.ranking.diversity.settings import DiversityConfig, MethodName
from metarec_core.ranking.diversity.space import ItemSpace

Padded = tuple[IntArray, BoolArray]
"""Rows of catalogue indices, and where they are real, ``[B, N]`` each."""

ACCURACY = "ndcg_at_10"
PLACES = 10
"""Places of a list that accuracy counts."""

STRENGTHS: Sequence[float] = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Strengths that are tried."""

TOLERANCE = 0.01
"""Share of the accuracy that the preset ``gentle`` may cost."""

FRONTIER_SCHEMA = pl.Schema(
    {
        "method": pl.String(),
        "strength": pl.Float64(),
        "metric": pl.String(),
        "value": pl.Float64(),
        "n_users": pl.Int64(),
        "loss_se": pl.Float64(),
    }
)
"""One figure a row: ``metric`` is ``ndcg_at_10`` or a name of
:data:`metarec_core.evaluation.diversity.DIVERSITY_METRICS`; ``value`` is null where it does not
exist. ``none`` has one strength, 0, which every other method begins with as well.

Of accuracy ``n_users`` is how many users have a task with a target, and ``loss_se`` the standard
error over them of the share that is lost, ``1 - value / value of none``; null where nothing can be
lost, or of a single user. Of the other metrics both are null."""


def frontier(
    judged: Iterable[JudgedPool],
    space: ItemSpace,
    *,
    k: int = PLACES,
    strengths: Sequence[float] = STRENGTHS,
    methods: Sequence[MethodName] | None = None,
    seed: int,
) -> pl.DataFrame:
    """Measure re-ranked lists on tasks whose outcome is known.

    Args:
        judged: Pools of the tasks, read once, a batch at a time.
        space: The catalogue.
        k: Length of the lists whose diversity is measured; accuracy is NDCG@10.
        strengths: Strengths of each method.
        methods: Names out of ``METHODS``; None for all that learner and catalogue allow.
        seed: Of every draw.

    Returns:
        A frame of :data:`FRONTIER_SCHEMA`, methods in the order asked for; empty without a task.

    Raises:
        ConfigError: If a method was asked for by name that learner or catalogue do not allow.
    """
    lists: dict[tuple[MethodName, float], list[IntArray]] = {}
    truth = _Truth()
    for batch in judged:
        if not lists:
            chosen = methods if methods is not None else _possible(batch, space)
            lists = {(name, strength): [] for name, strength in _grid(chosen, strengths)}
        for (name, strength), parts in lists.items():
            settings = DiversityConfig(method=name, strength=strength)
            positions = rerank(batch.pool, space, settings, max(k, PLACES), seed=seed)
            parts.append(batch.pool.ranked(positions))
        truth.add(batch)
    rows: list[tuple[object, ...]] = []
    plain: DoubleArray | None = None
    for (name, strength), parts in lists.items():
        shown = np.concatenate(parts)
        hits, accuracy = truth.judge(shown)
        plain = accuracy if plain is None else plain
        lost = relative_loss(plain, accuracy, truth.users)
        mean = float(np.nanmean(accuracy)) if lost.n_users else None
        rows.append((name, strength, ACCURACY, mean, lost.n_users, lost.standard_error))
        figures = truth.diversity(shown[:, :k], hits[:, :k], space)
        rows += [(name, strength, metric, value, None, None) for metric, value in figures.items()]
    return pl.DataFrame(rows, schema=FRONTIER_SCHEMA, orient="row").with_columns(
        pl.col("value").fill_nan(None)
    )


def choose_strength(
    figures: pl.DataFrame, method: MethodName, *, tolerance: float = TOLERANCE
) -> float:
    """The largest strength up to which the loss of accuracy, one standard error added, is small.

    A strength is chosen for users who were not measured: of the losses that look like 1 % about
    half are larger. One that would do again behind one that would not is taken for luck: with few
    tasks the curve is not smooth.

    Args:
        figures: What :func:`frontier` returned on validation tasks.
        method: The method.
        tolerance: Share of NDCG@10 that may be lost.

    Returns:
        A strength that was tried; 0 where the smallest one may cost more already, and where
        nothing was measured: without a task, without a target, or where lists by score alone hold
        no target.

    Raises:
        ConfigError: If others were tried, but not the method.
    """
    if figures.is_empty():
        return 0.0
    tried = figures.filter((pl.col("method") == method) & (pl.col("metric") == ACCURACY))
    if tried.is_empty():
        known = figures["method"].unique(maintain_order=True).to_list()
        raise ConfigError(
            "recommend.diversity.method",
            found=repr(method),
            wanted=f"a method of the measured frontier: {', '.join(known)}",
            next_step="choose one of those, or a learner and a dataset that allow the method",
        )
    plain = _without_reranking(figures)
    if plain <= 0.0:
        return 0.0
    worst = pl.col("value") - plain * pl.col("loss_se")
    shown = (worst >= (1.0 - tolerance) * plain).fill_null(False)
    good = tried.sort("strength").filter(shown.cum_min())
    return cast(float, good["strength"].max()) if len(good) else 0.0


def gentle(settings: DiversityConfig, figures: pl.DataFrame) -> DiversityConfig:
    """The settings with the strength that their preset stands for; without a preset, unchanged.

    Args:
        settings: With or without the preset ``gentle``.
        figures: What :func:`frontier` returned on validation tasks.

    Raises:
        ConfigError: If the method was not tried.
    """
    if settings.preset is None:
        return settings
    strength = choose_strength(figures, settings.method)
    return settings.changed({"strength": strength, "preset": None})


def unmeasured(figures: pl.DataFrame) -> str | None:
    """Why no strength could be shown to be gentle; None where one could have been.

    Args:
        figures: What :func:`frontier` returned on validation tasks.
    """
    if figures.is_empty():
        return "no validation user has a task"
    if _without_reranking(figures) <= 0.0:
        return "no list by score alone holds what a validation user turned out to like"
    if cast(int, figures["n_users"].max()) < 2:
        return "a single validation user has a task"
    return None


class _Truth:
    """What is known of all tasks, to measure lists with; of candidates nothing is held."""

    def __init__(self) -> None:
        self._users: list[IntArray] = []
        self._histories: list[Padded] = []
        self._tastes: list[Padded] = []
        self._targets: list[Padded] = []

    def add(self, batch: JudgedPool) -> None:
        """Take in a batch."""
        assert batch.pool.users is not None, "judged pools say whose they are"
        self._users.append(batch.pool.users)
        self._histories.append((batch.pool.history, batch.pool.history_mask))
        self._tastes.append((batch.pool.history, batch.pool.taste_mask))
        self._targets.append((batch.targets, batch.target_mask))

    @property
    def users(self) -> IntArray:
        """Whose task each is, ``[T]``."""
        return np.concatenate(self._users)

    def judge(self, lists: IntArray) -> tuple[BoolArray, DoubleArray]:
        """Which entries of lists ``[T, K]`` are targets, and NDCG, ``[T]``, NaN without any."""
        targets, wanted = (torch.from_numpy(part) for part in _stacked(self._targets))
        hits = metrics.hits(torch.from_numpy(lists), targets, wanted)
        return hits.numpy(), metrics.ndcg(hits, wanted.sum(dim=1), PLACES).double().numpy()

    def diversity(self, lists: IntArray, hits: BoolArray, space: ItemSpace) -> Mapping[str, float]:
        """Diversity of lists ``[T, k]``."""
        history, known = _stacked(self._histories)
        _, liked = _stacked(self._tastes)
        return diversity_figures(lists, space, history, known, hits, liked=liked)


def _grid(
    methods: Sequence[MethodName], strengths: Sequence[float]
) -> Iterable[tuple[MethodName, float]]:
    yield "none", 0.0
    for name in methods:
        if name != "none":
            yield from ((name, strength) for strength in sorted({0.0, *strengths}))


def _possible(batch: JudgedPool, space: ItemSpace) -> list[MethodName]:
    return [
        name
        for name, method in METHODS.items()
        if (batch.pool.covariance is not None or not method.covariance)
        and (space.category_names or not method.categories)
        and (space.vectors.shape[1] or not method.vectors)
    ]


def _without_reranking(figures: pl.DataFrame) -> float:
    found = figures.filter((pl.col("method") == "none") & (pl.col("metric") == ACCURACY))["value"]
    value = found.item() if len(found) else None
    return 0.0 if value is None else float(value)


def _stacked(parts: Sequence[Padded]) -> Padded:
    """Rows of all batches, as wide as the widest."""
    width = max(items.shape[1] for items, _ in parts)
    padded = [
        [np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in pair] for pair in parts
    ]
    items, masks = (np.concatenate(column) for column in zip(*padded, strict=True))
    return items, masks
