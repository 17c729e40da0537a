"""A user's taste is read from what it liked."""

from __future__ import annotations

import numpy as np
import pytest

from metarec_core.episodes.types import ValueScale
from metarec_core.errors import ModelError
from metarec_core.ranking.diversity.pool import Pool
from metarec_core.ranking.diversity.rerank import rerank
from metarec_core.ranking.diversity.settings import DiversityConfig
from metarec_core.ranking.diversity.space import ItemSpace
from metarec_core.ranking.diversity.taste import liked, liked_from
from metarec_core.schema import Feedback

HORROR, COMEDY = np.arange(30), np.arange(30, 60)


@pytest.fixture(scope="module")
def films() -> ItemSpace:
    """30 horrors, then 30 comedies."""
    kinds = np.zeros((60, 2), dtype=np.float32)
    kinds[HORROR, 0] = kinds[COMEDY, 1] = 1.0
    return ItemSpace(np.eye(60, dtype=np.float32), kinds, ("Horror", "Comedy"), np.full(60, 0.1))


def pool_of_one(values: np.ndarray, least: float | None) -> Pool:
    """Ten horrors and five comedies were rated; 20 comedies are candidates, then 20 horrors."""
    history = np.concatenate([HORROR[:10], COMEDY[:5]])[None]
    known = np.ones_like(history, dtype=np.bool_)
    return Pool(
        items=np.concatenate([COMEDY[5:25], HORROR[10:]])[None],
        scores=np.linspace(2.0, 1.0, 40)[None],
        history=history,
        history_mask=known,
        liked=liked(values[None].astype(np.float32), known, least),
    )


def test_liked_is_what_is_rated_well_enough_or_all_where_nothing_is() -> None:
    values = np.array([[5, 1, 4, 5], [1, 2, 3, 0], [9, 9, 9, 9]], dtype=np.float32)
    mask = np.array([[True, True, True, False], [True, True, True, False], [False] * 4])
    found = liked(values, mask, 4.0)
    assert found.tolist() == [[True, False, True, False], [True, True, True, False], [False] * 4]
    assert liked(values, mask, None) is mask


def test_under_implicit_feedback_nobody_says_no() -> None:
    assert liked_from(ValueScale(Feedback.EXPLICIT, 1.0, 5.0, 4.0)) == 4.0
    assert liked_from(ValueScale(Feedback.IMPLICIT, 0.0, 10.0, 3.0)) is None


@pytest.mark.parametrize("method", ["calibrated", "xquad"])
def test_nobody_gets_more_of_what_it_disliked(method: str, films: ItemSpace) -> None:
    values = np.array([1.0] * 10 + [5.0] * 5)
    settings = DiversityConfig(method=method, strength=0.9)

    def horrors(least: float | None) -> int:
        pool = pool_of_one(values, least)
        return int((pool.ranked(rerank(pool, films, settings, 10, seed=0)) < 30).sum())

    assert horrors(4.0) == 0
    # Events of implicit feedback all count, and so does what someone rated who liked nothing.
    assert horrors(None) > 0
    assert horrors(6.0) == horrors(None)


def test_taste_marks_that_are_not_of_the_history_are_refused() -> None:
    entry = np.zeros((1, 1), dtype=np.int64)
    with pytest.raises(ModelError, match="liked of shape"):
        Pool(
            items=entry,
            scores=np.zeros((1, 1)),
            history=entry,
            history_mask=np.ones((1, 1), dtype=np.bool_),
            liked=np.ones((1, 2), dtype=np.bool_),
        )
