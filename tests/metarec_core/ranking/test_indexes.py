"""Which items are kept prepared, and for whom."""

import numpy as np
import pytest
import torch

from metarec_core.learners.base import ItemFactors
from metarec_core.ranking.indexes import WORTH_PREPARING, Indexes
from metarec_core.ranking.search.tiles import TiledSearch


class Factored:
    """Forty items of three dimensions."""

    name = "factored"

    def __init__(self):
        self.asked = 0
        self.vectors = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)).double()

    def item_factors(self):
        self.asked += 1
        return ItemFactors(self.vectors, torch.zeros(40, dtype=torch.float64))


@pytest.fixture
def learner(monkeypatch):
    monkeypatch.setattr("metarec_core.ranking.indexes.FactorLearner", Factored)
    return Factored()


MASKS = np.eye(3, 40, dtype=np.bool_) | (np.arange(40) > 20)
MANY = torch.randn(WORTH_PREPARING, 3, generator=torch.Generator().manual_seed(1)).double()


def test_vectors_are_taken_once_whatever_the_masks(learner):
    indexes = Indexes(learner)
    found = [indexes.get(mask, MANY) for mask in MASKS]
    assert learner.asked == 1
    assert len({one._vectors.data_ptr() for one in found}) == 1
    scores = MANY @ learner.vectors.T
    for mask, one in zip(MASKS, found, strict=True):
        best = scores.masked_fill(~torch.from_numpy(mask), -torch.inf).argmax(dim=1)
        assert one.search(MANY, 1).items[:, 0].tolist() == best.tolist()


def test_sets_that_were_not_asked_for_longest_make_room(learner):
    one = Indexes(learner).get(MASKS[0], MANY).n_bytes
    indexes = Indexes(learner, memory=2 * one)
    first, second = indexes.get(MASKS[0], MANY), indexes.get(MASKS[1], MANY)
    assert indexes.get(MASKS[0], MANY) is first
    indexes.get(MASKS[2], MANY)
    assert indexes.get(MASKS[0], MANY) is first
    assert indexes.get(MASKS[1], MANY) is not second
    # One there always is.
    small = Indexes(learner, memory=1)
    assert small.get(MASKS[0], MANY) is small.get(MASKS[0], MANY)


def test_a_few_users_are_served_without_preparing_until_they_are_many(learner):
    indexes, few = Indexes(learner), MANY[: WORTH_PREPARING // 2]
    first = indexes.get(MASKS[0], few)
    assert not isinstance(first._search, TiledSearch)
    assert not indexes.made
    second = indexes.get(MASKS[0], few)
    assert len(indexes.made) == 1
    assert np.array_equal(first.search(MANY, 5).items, second.search(MANY, 5).items)
    assert np.array_equal(first.search(MANY, 5).scores, second.search(MANY, 5).scores)
