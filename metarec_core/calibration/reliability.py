"""Stated probabilities against what came: by support size, in bins of equal mass."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import polars as pl

from metarec_core.calibration.pairs import Pairs
from metarec_core.calibration.relevance import RelevanceCalibration
from metarec_core.calibration.sizes import Doubles, Integers
from metarec_core.evaluation.metrics import calibration_error
from metarec_core.schema import SEGMENT_BANDS, Columns, segment

BINS = 15
LEVEL = 0.9
ALL_SEGMENTS = "all"

STATED_SCHEMA = pl.Schema(
    {
        "learner": pl.String(),
        "user": pl.Int64(),
        Columns.SUPPORT_SIZE: pl.Int64(),
        "probability": pl.Float64(),
        "relevant": pl.Boolean(),
        "inside": pl.Boolean(),
    }
)
"""A pair of a user and an item: the probability stated, whether it came, and whether the value lay
inside its 90 % interval (null where none was forecast)."""

RELIABILITY_SCHEMA = pl.Schema(
    {
        "learner": pl.String(),
        Columns.SEGMENT: pl.String(),
        "bin": pl.Int32(),
        "pairs": pl.Int64(),
        "users": pl.Int64(),
        "stated": pl.Float64(),
        "observed": pl.Float64(),
    }
)
"""A bin: how many pairs, of how many users, the mean probability stated and the share that came.
Bins of a segment hold (nearly) equally many pairs; segment ``all`` holds every support size."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How well stated uncertainty holds.

    Attributes:
        ece: Calibration error of P(relevant) in :data:`BINS` bins of equal mass.
        chance: What a perfectly calibrated forecast would have of it on as many users and pairs.
        coverage: Share of values inside their 90 % intervals, a mean over users; None where no
            value is forecast.
        coverage_se: Its standard error over users.
        pairs: Pairs of a user and an item.
        users: Users.
    """

    ece: float
    chance: float
    coverage: float | None
    coverage_se: float | None
    pairs: int
    users: int


def stated_frame(name: str, pairs: Pairs, calibration: RelevanceCalibration) -> pl.DataFrame:
    """``STATED_SCHEMA`` of a learner's pairs; those without a probability are left out.

    Args:
        name: Name in the ``learner`` column.
        pairs: What the learner said, and what came.
        calibration: Its calibration.
    """
    reach = NormalDist().inv_cdf((1.0 + LEVEL) / 2.0)
    distance = np.abs(pairs.values - pairs.mean) - reach * np.sqrt(np.maximum(pairs.variance, 0.0))
    inside = pl.Series(distance, nan_to_null=True) <= 0.0
    frame = pl.DataFrame(
        {
            "learner": pl.repeat(name, len(pairs), dtype=pl.String(), eager=True),
            "user": pairs.users,
            Columns.SUPPORT_SIZE: pairs.sizes,
            "probability": pairs.stated_by(calibration),
            "relevant": pairs.relevant,
            "inside": inside,
        }
    )
    return frame.cast(STATED_SCHEMA).filter(pl.col("probability").is_not_nan())


def reliability(stated: pl.DataFrame) -> pl.DataFrame:
    """Bins of every learner, over all support sizes and by segment.

    Args:
        stated: ``STATED_SCHEMA``.

    Returns:
        ``RELIABILITY_SCHEMA``: learners in their order, of each first segment ``all``, then those
        that have pairs, by support size.
    """
    rows = []
    for (name,), own in stated.group_by("learner", maintain_order=True):
        bands = own[Columns.SUPPORT_SIZE].map_elements(segment, return_dtype=pl.String())
        for label in (ALL_SEGMENTS, *(band for _, band in SEGMENT_BANDS)):
            part = own if label == ALL_SEGMENTS else own.filter(bands == label)
            rows += [(name, label, *row) for row in _bins(part)]
    return pl.DataFrame(rows, schema=RELIABILITY_SCHEMA, orient="row")


def standing(stated: pl.DataFrame) -> Standing | None:
    """Figures of one learner's pairs, ``STATED_SCHEMA``; None without a pair."""
    if stated.is_empty():
        return None
    probability, relevant = stated["probability"].to_numpy(), stated["relevant"].to_numpy()
    users = stated["user"].to_numpy()
    by_user = stated.drop_nulls("inside").group_by("user").agg(pl.col("inside").mean())["inside"]
    spread = by_user.std()
    return Standing(
        ece=calibration_error(probability, relevant, BINS),
        chance=chance_error(probability, relevant, users),
        coverage=None if by_user.is_empty() else float(by_user.sum()) / len(by_user),
        coverage_se=None if spread is None else float(spread) / len(by_user) ** 0.5,  # type: ignore[arg-type]
        pairs=len(stated),
        users=stated["user"].n_unique(),
    )


def chance_error(
    probabilities: Doubles, outcomes: npt.NDArray[np.bool_], users: Integers, bins: int = BINS
) -> float:
    """Calibration error that a perfectly calibrated forecast would have, by chance alone.

    The gap between what is stated and what came in a bin is then normal, with a variance that its
    users tell: the sum over users of their own squared gaps, so that pairs of one user may err
    together (Liang & Zeger 1986, "Longitudinal Data Analysis Using Generalized Linear Models").
    The mean of its size is ``sqrt(2 / pi)`` of its sd.

    Args:
        probabilities: Stated, ``[N]``.
        outcomes: What came, ``[N]``.
        users: Whose pair each is, ``[N]``.
        bins: Bins of equal mass.
    """
    if not len(probabilities):
        return 0.0
    place = _places(probabilities, bins)
    _, user = np.unique(users, return_inverse=True)
    gaps = np.zeros((bins, int(user.max()) + 1))
    np.add.at(gaps, (place, user), outcomes - probabilities)
    spread = np.sqrt(np.square(gaps).sum(axis=1))
    return float(np.sqrt(2.0 / np.pi) * spread.sum() / len(probabilities))


def _places(probabilities: Doubles, bins: int) -> Integers:
    """Bin of each pair, ``[N]``; the bins are those of ``calibration_error``."""
    order = np.argsort(probabilities, kind="stable")
    sizes = [len(part) for part in np.array_split(order, bins)]
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.repeat(np.arange(bins), sizes)
    return place


def _bins(stated: pl.DataFrame) -> list[tuple[object, ...]]:
    if stated.is_empty():
        return []
    place = pl.Series(_places(stated["probability"].to_numpy(), BINS))
    return (
        stated.with_columns(bin=place)
        .group_by("bin")
        .agg(
            pl.len(),
            pl.col("user").n_unique(),
            pl.col("probability").mean(),
            pl.col("relevant").mean().alias("observed"),
        )
        .sort("bin")
        .rows()
    )
