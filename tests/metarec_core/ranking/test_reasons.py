"""Reasons against what is computed entry by entry: shares, deletions, features, counterfactuals."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from metarec_core.episodes.types import Support, TaskData
from metarec_core.learners.average import Average
from metarec_core.learners.base import Learner, Shares
from metarec_core.ranking.grid import on_grid
from metarec_core.ranking.reasons import Asked, ReasonArrays, ReasonDetail, explain
from metarec_core.schema import REASON_TYPE

N_ITEMS = 40


@pytest.fixture(scope="module")
def support(small_data: TaskData) -> Support:
    """Eight users, padded to 16; the last two rows stand for nobody."""
    items, values = torch.zeros(10, 16, dtype=torch.int64), torch.zeros(10, 16)
    mask = torch.zeros(10, 16, dtype=torch.bool)
    matrix = small_data.interactions
    for user in range(1, 8):
        start, end = matrix.indptr[user : user + 2]
        own = slice(0, end - start)
        items[user, own] = torch.from_numpy(matrix.items[start:end])
        values[user, own] = torch.from_numpy(matrix.values[start:end])
        mask[user, own] = True
    return Support(items, values, mask, torch.from_numpy(small_data.user_features[:10]))


@pytest.fixture(scope="module")
def items() -> Tensor:
    return torch.randint(N_ITEMS, (10, 5), generator=torch.Generator().manual_seed(2))


CATALOGUE = pl.DataFrame(
    {
        "item_id": [f"i{item}" for item in range(N_ITEMS)],
        "title": [f"Title {item}" for item in range(N_ITEMS)],
    }
)
LABELS = pl.Series(["Comedy", "Drama", "year"])
GROUPS = torch.tensor([0, 1, 2, 2])


def without(support: Support, user: int, entry: int) -> Support:
    mask = support.mask.clone()
    mask[user, entry] = False
    return Support(support.items, support.values, mask, support.user_features)


@torch.no_grad()
def made(learner: Learner, support: Support, items: Tensor, n_named: int = 3, **asked) -> tuple:
    predictor = learner.adapt(support)
    pool = asked.pop("pool", None)
    detail = ReasonDetail(**asked)
    return predictor, explain([Asked(predictor, support, items, 8, pool)], n_named, detail=detail)


def test_named_interactions_bring_most_share_and_deletion_together(
    small_average: Average, support: Support, items: Tensor
) -> None:
    predictor, reasons = made(small_average, support, items, deletions=16)
    shares = predictor.shares(items)
    everything = torch.arange(16).expand(10, -1)
    deletions = predictor.deletions(items, everything)
    effect = on_grid(shares.support.double()) + on_grid(deletions)

    assert np.allclose(reasons.total(), predictor.scores(items)[:8], atol=1e-5)
    for user in range(8):
        size = int(support.mask[user].sum())
        for place in range(5):
            strongest = effect[user, place, :size].abs().argsort(descending=True, stable=True)[:3]
            n = len(strongest)
            named = reasons.named_item[user, place]
            assert named[:n].tolist() == support.items[user, strongest].tolist()
            assert (named[n:] == -1).all()
            for mine, expected in (
                (reasons.named, shares.support),
                (reasons.deletion, deletions),
            ):
                chosen = expected[user, place, strongest].double()
                assert np.allclose(mine[user, place, :n], chosen, atol=1e-6)
            assert np.isnan(reasons.rest[user, place]) == (size <= 3)


def test_deletions_are_score_changes_of_the_network_alone(
    small_average: Average, support: Support, items: Tensor
) -> None:
    """With the average's weights held fixed, by hand: adapt its network to the smaller support."""
    predictor, _ = made(small_average, support, items)
    network = small_average.members[3].learner
    factor = predictor._factors[3]
    lost = predictor.deletions(items, torch.arange(16).expand(10, -1))
    for user, entry in ((1, 0), (4, 1), (7, 1)):
        whole, left = (
            network.adapt(one).scores(items) for one in (support, without(support, user, entry))
        )
        expected = factor[user] * (whole - left)[user].double()
        torch.testing.assert_close(lost[user, :, entry], expected, atol=1e-9, rtol=1e-9)


def test_only_so_many_are_tried_and_those_that_hint_most(
    small_average: Average, support: Support, items: Tensor
) -> None:
    predictor, reasons = made(small_average, support, items, n_named=16, deletions=2)
    hints = predictor.hints(items)
    for user in range(8):
        size = int(support.mask[user].sum())
        tried = hints[user, :size].argsort(descending=True, stable=True)[:2]
        expected = set(support.items[user, tried].tolist())
        for place in range(5):
            asked = ~np.isnan(reasons.deletion[user, place])
            assert set(reasons.named_item[user, place][asked].tolist()) == expected


def test_features_are_summed_by_name(
    small_average: Average, support: Support, items: Tensor
) -> None:
    predictor, reasons = made(small_average, support, items, features=2, groups=GROUPS)
    by_column = predictor.feature_shares(items)[:8]
    by_name = torch.stack([by_column[..., label == GROUPS].sum(dim=2) for label in range(3)], dim=2)
    by_name = on_grid(by_name).numpy()
    for user in range(8):
        for place in range(5):
            shares = by_name[user, place]
            order = np.argsort(-np.abs(shares), kind="stable")[:2]
            expected = [(int(one), float(shares[one])) for one in order if shares[one] != 0.0]
            got = zip(reasons.feature_label[user, place], reasons.feature[user, place], strict=True)
            assert [pair for pair in got if pair[0] >= 0] == expected


def test_places_without_the_strongest_reason_are_those_of_a_refit(
    small_average: Average, support: Support, items: Tensor
) -> None:
    generator = torch.Generator().manual_seed(5)
    pool = torch.stack([torch.randperm(N_ITEMS, generator=generator)[:12] for _ in range(10)])
    pool[:, -1] = -1
    listed = pool[:, :4].clone()
    predictor, reasons = made(small_average, support, listed, pool=pool)
    for user in range(8):
        for place in range(4):
            strongest = reasons.named_item[user, place, 0]
            if strongest < 0:
                assert reasons.rank_without[user, place] == 0
                continue
            entry = support.items[user, : int(support.mask[user].sum())].tolist().index(strongest)
            left = on_grid(
                small_average.adapt(without(support, user, entry)).scores()[user].double()
            )
            own = int(listed[user, place])
            others = [item for item in pool[user].tolist() if item >= 0]
            ordered = sorted(others, key=lambda item: (-float(left[item]), item))
            assert reasons.rank_without[user, place] == ordered.index(own) + 1
            lost = float(on_grid(predictor.scores(listed)[user, place].double()) - left[own])
            assert reasons.lost[user, place] == pytest.approx(lost, abs=2e-6)


def test_the_column_holds_every_reason_by_kind(
    small_average: Average, support: Support, items: Tensor
) -> None:
    asked = {"deletions": 16, "features": 3, "groups": GROUPS, "pool": items}
    _, reasons = made(small_average, support, items, n_named=2, **asked)
    column = reasons.column(CATALOGUE, LABELS)

    assert column.dtype == pl.List(REASON_TYPE)
    assert len(column) == 8 * 5
    nobody, somebody = column[0].to_list(), column[4 * 5].to_list()
    assert [one["kind"] for one in nobody if one["kind"] != "feature"] == [
        "item",
        "prior",
        "beyond",
    ]
    kinds = [one["kind"] for one in somebody if one["kind"] != "feature"]
    start = ["item", "prior", "support", "support"]
    rest = ["rest"] if int(support.mask[4].sum()) > 2 else []
    assert kinds == [*start, *rest, "beyond", "deletion", "deletion", "counterfactual"]
    for one in somebody:
        of_item = one["kind"] in ("support", "deletion", "counterfactual")
        assert (one["item_id"] is None) != of_item
        assert (one["title"] is None) != of_item
        assert (one["value"] is None) != of_item
        assert (one["feature"] is None) == (one["kind"] != "feature")
        assert (one["rank"] is None) == (one["kind"] != "counterfactual")
        if of_item:
            assert one["title"] == f"Title {one['item_id'][1:]}"
    additive = ("item", "prior", "support", "rest", "beyond")
    sums = [sum(one["share"] for one in entry if one["kind"] in additive) for entry in column]
    assert np.array_equal(np.reshape(sums, (8, 5)), reasons.total())


def test_companions_change_nothing(small_average: Average, support: Support, items: Tensor) -> None:
    """A user's deletions and places are adapted among other pairs, and come out the same."""
    asked = {"deletions": 3, "features": 3, "groups": GROUPS}
    _, reasons = made(small_average, support, items, pool=items, **asked)
    order = torch.tensor([7, 4, 1, 6, 0, 5, 2, 3, 8, 9])
    other = Support(
        support.items[order],
        support.values[order],
        support.mask[order],
        support.user_features[order],
    )
    other.mask[4:8] = False
    _, mixed = made(small_average, other, items[order], pool=items[order], **asked)
    kept = order[:4].numpy()
    expected = reasons.column(CATALOGUE, LABELS).to_frame("one").with_row_index()
    got = mixed.column(CATALOGUE, LABELS)[:20]
    rows = [user * 5 + place for user in kept.tolist() for place in range(5)]
    assert got.to_list() == expected["one"].gather(rows).to_list()


def test_arrays_are_put_and_taken(small_average: Average, support: Support, items: Tensor) -> None:
    asked = {"deletions": 16, "features": 3, "groups": GROUPS, "pool": items}
    _, part = made(small_average, support, items, n_named=2, **asked)
    whole = ReasonArrays.empty(20, 5, 4, 3)
    rows = np.arange(3, 19, 2)
    whole.put(rows, part)

    expected = part.column(CATALOGUE, LABELS)
    taken = whole.take(np.repeat(rows, 5), np.tile(np.arange(5), 8)).column(CATALOGUE, LABELS)
    assert taken.equals(expected)


def test_nobody_and_nothing(small_average: Average, support: Support) -> None:
    none = torch.zeros(10, 0, dtype=torch.int64)
    _, reasons = made(small_average, support, none)
    assert reasons.item.shape == (8, 0)
    assert len(reasons.column(CATALOGUE)) == 0


class OnePart:
    """All of the score is the item's; no more can be asked."""

    def shares(self, items: Tensor) -> Shares:
        zero = torch.zeros(items.shape, dtype=torch.float64)
        return Shares(zero + 1.0, zero, torch.zeros(*items.shape, 16, dtype=torch.float64))


def test_a_predictor_that_cannot_be_asked_more_gives_shares_alone(
    support: Support, items: Tensor
) -> None:
    detail = ReasonDetail(deletions=5, features=2, groups=GROUPS)
    reasons = explain([Asked(OnePart(), support, items, 8, items)], 2, detail=detail)  # type: ignore[arg-type]
    kinds = reasons.column(CATALOGUE, LABELS).explode().struct.field("kind")
    assert set(kinds) == {"item", "prior", "support", "rest"}
