"""Places without an interaction, against adapting again and sorting."""

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metarec_core.episodes.types import Support, TaskData
from metarec_core.errors import ModelError
from metarec_core.learners.average import Average
from metarec_core.learners.bias import Bias, BiasConfig
from metarec_core.ranking import counterfactual
from metarec_core.ranking.counterfactual import places_in, places_without
from metarec_core.ranking.grid import on_grid
from metarec_core.ranking.lists import rank
from metarec_core.ranking.request import Audience, ListSettings

N_ITEMS = 30


class Additive:
    """Scores are sums of votes between items; it cannot leave an interaction out by itself."""

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights
        self.adapted = 0

    def adapt(self, support: Support) -> "AdditivePredictor":
        self.adapted += 1
        votes = (support.values * support.mask).double()
        return AdditivePredictor((votes.unsqueeze(-1) * self.weights[support.items]).sum(dim=1))


class AdditivePredictor:
    def __init__(self, scores: Tensor) -> None:
        self._scores = scores

    def scores(self, items: Tensor | None = None) -> Tensor:
        return self._scores if items is None else self._scores.gather(1, items)


def one_user(items: list[int], values: list[float]) -> Support:
    return Support(
        torch.tensor([items], dtype=torch.int64).reshape(1, -1),
        torch.tensor([values]).reshape(1, -1),
        torch.ones(1, len(items), dtype=torch.bool),
        torch.zeros(1, 0),
    )


def place_of(scores: Tensor, item: int, competes: Tensor) -> int:
    rivals = competes.nonzero().squeeze(1).tolist()
    return sorted(rivals, key=lambda one: (-float(scores[one]), one)).index(item) + 1


@st.composite
def users(draw: st.DrawFn) -> tuple[Support, Tensor, Tensor, Tensor]:
    """A user, weights with many ties, entries and who competes."""
    history = draw(st.lists(st.integers(0, N_ITEMS - 1), max_size=6, unique=True))
    values = [draw(st.sampled_from([1.0, 2.0])) for _ in history]
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    weights = torch.from_numpy(rng.integers(-2, 3, size=(N_ITEMS, N_ITEMS)).astype(float))
    competes = torch.from_numpy(rng.random(N_ITEMS) < 0.7)
    competes[history] = False
    open_items = competes.nonzero().squeeze(1)
    entries = open_items[torch.from_numpy(rng.permutation(len(open_items))[:4])]
    return one_user(history, values), weights, entries, competes


@settings(deadline=None)
@given(users())
def test_places_are_those_of_a_model_that_never_saw_the_interaction(
    case: tuple[Support, Tensor, Tensor, Tensor],
) -> None:
    support, weights, entries, competes = case
    found = places_without(Additive(weights), support, entries, competes)

    whole = on_grid(Additive(weights).adapt(support).scores()[0])
    assert found.rank.tolist() == [place_of(whole, int(item), competes) for item in entries]
    assert torch.equal(found.score, whole[entries])
    size = support.items.shape[1]
    assert found.rank_without.shape == (len(entries), size)
    for entry in range(size):
        kept = [column for column in range(size) if column != entry]
        smaller = one_user(support.items[0, kept].tolist(), support.values[0, kept].tolist())
        left = on_grid(Additive(weights).adapt(smaller).scores()[0])
        expected = [place_of(left, int(item), competes) for item in entries]
        assert found.rank_without[:, entry].tolist() == expected
        assert torch.equal(found.score_without[:, entry], left[entries])


def test_memory_is_bounded_and_a_closed_form_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = Bias(BiasConfig())
    learner.item_bias = torch.randn(N_ITEMS, generator=torch.Generator().manual_seed(1))
    learner.item_count = torch.ones(N_ITEMS)
    support = one_user([1, 4, 7, 9], [5.0, 1.0, 3.0, 2.0])
    competes = torch.ones(N_ITEMS, dtype=torch.bool)
    competes[[1, 4, 7, 9]] = False
    entries = torch.tensor([0, 2, 3])
    whole = places_without(learner, support, entries, competes)
    monkeypatch.setattr(counterfactual, "_SCORES", N_ITEMS)
    parts = places_without(learner, support, entries, competes)

    assert torch.equal(whole.rank_without, parts.rank_without)
    assert torch.equal(whole.score_without, parts.score_without)
    # A user's bias moves all items alike.
    assert torch.equal(whole.rank_without, whole.rank[:, None].expand(-1, 4))
    assert (whole.score_without[:, 0] < whole.score).all()


def test_an_entry_that_does_not_compete_is_refused() -> None:
    competes = torch.ones(N_ITEMS, dtype=torch.bool)
    competes[3] = False
    with pytest.raises(ModelError, match="1 of 2 that do not compete"):
        places_without(
            Additive(torch.zeros(N_ITEMS, N_ITEMS)),
            one_user([3], [1.0]),
            torch.tensor([3, 5]),
            competes,
        )


def test_places_are_each_users_own() -> None:
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.integers(0, 4, size=(5, N_ITEMS)).astype(float))
    competes = torch.from_numpy(rng.random((5, N_ITEMS)) < 0.6)
    competes[:, :3] = True
    items = torch.tensor([[0, 1, 2]]).expand(5, -1)
    expected = [
        [place_of(scores[user], item, competes[user]) for item in range(3)] for user in range(5)
    ]
    assert places_in(scores, items, competes).tolist() == expected


def test_lists_seek_the_place_beyond_their_own_end(
    small_average: Average, small_data: TaskData
) -> None:
    matrix, n_items = small_data.interactions, small_data.n_items
    names = [f"i{item:02d}" for item in range(n_items)]
    ids = pl.Series("user_id", [str(user) for user in range(small_data.n_users)])
    audience = Audience(ids, matrix, small_data.user_features)
    catalogue = pl.DataFrame({"item_id": names, "title": names})
    settings = ListSettings(k=3, counterfactuals=True)
    frame = pl.concat(rank(small_average, catalogue, audience, settings))
    told = frame.explode("reasons").unnest("reasons", separator="_")
    told = told.filter(pl.col("reasons_kind") == "counterfactual")
    assert len(told) > 50
    for user, item, without, place in told.select(
        "user_id", "item_id", "reasons_item_id", "reasons_rank"
    ).iter_rows():
        start, end = matrix.indptr[int(user) : int(user) + 2]
        known = torch.from_numpy(matrix.items[start:end])[None]
        support = Support(
            known,
            torch.from_numpy(matrix.values[start:end])[None],
            torch.ones_like(known, dtype=torch.bool),
            torch.from_numpy(small_data.user_features[int(user)])[None],
        )
        unseen = torch.ones(n_items, dtype=torch.bool)
        unseen[known[0]] = False
        entry = torch.tensor([names.index(item)])
        alone = places_without(small_average, support, entry, unseen).rank_without[0]
        assert place == alone[known[0].tolist().index(names.index(without))]
    assert told["reasons_rank"].max() > 3
