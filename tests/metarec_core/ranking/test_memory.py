"""Memory that is set decides how many users are in a tile."""

import pytest
import torch

from metarec_core.learners.base import ItemFactors
from metarec_core.learners.popularity import Popularity, PopularityConfig
from metarec_core.ranking.blocks import BLOCK_USERS
from metarec_core.ranking.memory import MOST_USERS, bytes_of, tile_users


class Factored:
    def __init__(self, dim):
        self.dim = dim

    def item_factors(self):
        return ItemFactors(torch.zeros(3, self.dim), torch.zeros(3))


def users(memory, dim=64, **changes):
    wanted = {"k": 20, "pool": 20, "reasons": 3, "workers": 1} | changes
    return tile_users(bytes_of(memory), Factored(dim), **wanted)


def test_twice_the_memory_holds_twice_the_users():
    once, twice = users("50MB"), users("100MB")
    assert twice == pytest.approx(2 * once, abs=1)
    assert users("100MB", workers=2) == once
    # A posterior of 64 dimensions alone is 32 kB.
    assert BLOCK_USERS < once < 50_000 // 32


@pytest.mark.parametrize("more", [{"k": 200}, {"pool": 2000}, {"reasons": 40}, {"dim": 128}])
def test_whatever_a_user_needs_more_of_leaves_room_for_fewer(more):
    assert users("50MB", **more) < users("50MB")


def test_there_is_a_block_at_least_and_an_end_at_last():
    assert users("1MB", dim=512) == BLOCK_USERS
    assert users("9999GB") == MOST_USERS
    popularity = Popularity(PopularityConfig())
    few = tile_users(10**6, popularity, k=10, pool=10, reasons=3, workers=1)
    assert few > BLOCK_USERS
