"""Figures beyond accuracy, by hand and against loops over users, lists and pairs."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metarec_core.errors import ModelError
from metarec_core.evaluation import diversity, metrics
from metarec_core.evaluation.diversity import (
    DIVERSITY_METRICS,
    diversity_figures,
    popular_unseen,
)
from metarec_core.ranking.diversity.space import ItemSpace

CATEGORIES = np.array([[1, 0, 0], [0.5, 0.5, 0], [0, 0, 0], [0, 0, 1]], dtype=np.float32)
VECTORS = np.array([[1, 0], [0, 1], [0, 0], [-1, 0]], dtype=np.float32)


def lists(*rows: list[int]) -> np.ndarray:
    return np.array(rows, dtype=np.int64)


def test_intra_list_diversity_by_hand() -> None:
    found = metrics.intra_list_diversity(
        lists([0, 1, 3], [0, 3, -1], [0, 2, -1], [1, -1, -1]), VECTORS
    )
    # Cosines of 0-1, 0-3, 1-3 are 0, -1, 0; an item without a vector is like no other.
    np.testing.assert_allclose(found, [1 + 1 / 3, 2.0, 1.0, np.nan])
    assert metrics.intra_list_diversity(lists([0, 0]), VECTORS).tolist() == [0.0]


def test_categories_by_hand() -> None:
    shown = lists([0, 1, -1], [2, -1, -1], [3, 3, 2], [-1, -1, -1])
    np.testing.assert_allclose(
        metrics.category_coverage(shown, CATEGORIES), [2 / 3, 0.0, 1 / 3, np.nan]
    )
    entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    np.testing.assert_allclose(
        metrics.category_entropy(shown, CATEGORIES), [entropy, np.nan, 0.0, np.nan]
    )
    for measure in (metrics.category_coverage, metrics.category_entropy):
        assert np.isnan(measure(shown, CATEGORIES[:, :0])).all()


def test_category_calibration_error_by_hand() -> None:
    shown = lists([0, 1], [0, 1], [0, 1], [2, -1])
    wanted = np.array([[0.75, 0.25, 0], [0, 0, 1], [0, 0, 0], [1, 0, 0]])
    found = metrics.category_calibration_error(shown, CATEGORIES, wanted)
    # A list in the user's own proportions, one with nothing of what is wanted, and two unknown.
    np.testing.assert_allclose(found, [0.0, math.log(100.0), np.nan, np.nan], atol=1e-12)


def test_novelty_by_hand() -> None:
    log_popularity = np.log([0.5, 0.25, 1.0, 0.125])
    found = metrics.novelty(lists([0, 1, 3], [2, -1, -1], [-1, -1, -1]), log_popularity)
    np.testing.assert_allclose(found, [2.0, 0.0, np.nan])


def test_serendipity_is_relevant_and_not_expected() -> None:
    shown = lists([0, 1, 2, 3], [0, 1, -1, -1], [-1] * 4)
    liked = np.array([[True, True, False, False], [True, True, True, True], [True] * 4])
    expected = lists([0, 9], [7, 8], [0, 1])
    np.testing.assert_allclose(metrics.serendipity(shown, liked, expected), [0.25, 1.0, np.nan])


def test_unexpectedness_by_hand() -> None:
    mask = np.array([[True, True], [True, False], [False, False]])
    found = metrics.unexpectedness(
        lists([0, 1], [3, -1], [0, 1]), VECTORS, lists([0, 1], [0, 0], [0, 0]), mask
    )
    # Of the four pairs of the first user two are of an item with itself.
    np.testing.assert_allclose(found, [0.5, 2.0, np.nan])


def test_gini_by_hand() -> None:
    assert metrics.gini(np.array([3, 3, 3, 3])) == pytest.approx(0.0)
    assert metrics.gini(np.array([0, 0, 7, 0])) == pytest.approx(1.0)
    # Mean absolute difference of all pairs by twice the mean, n / (n - 1) times.
    counts = np.array([1, 2, 5])
    apart = np.abs(counts[:, None] - counts).mean() / (2 * counts.mean())
    assert metrics.gini(counts) == pytest.approx(apart * 3 / 2)
    assert math.isnan(metrics.gini(np.array([4])))
    assert math.isnan(metrics.gini(np.zeros(5, dtype=np.int64)))


def test_popularity_lift_by_hand() -> None:
    popularity = np.array([0.8, 0.4, 0.2, 0.0])
    mask = np.array([[True, True], [True, False], [False, False]])
    known = lists([0, 1], [2, 0], [0, 0])
    shown = lists([0, 0], [0, 1], [3, 3])
    # Lists 0.8 and 0.6, histories 0.6 and 0.2; who has no history does not count.
    assert metrics.popularity_lift(shown, popularity, known, mask) == pytest.approx(1.4 / 0.8 - 1)
    nobody = np.zeros_like(mask)
    assert math.isnan(metrics.popularity_lift(shown, popularity, known, nobody))


def test_what_popularity_would_show_skips_the_history() -> None:
    popularity = np.array([0.1, 0.5, 0.5, 0.0, 0.9])
    mask = np.array([[True, True], [False, False], [True, True]])
    found = popular_unseen(popularity, lists([4, 2], [4, 4], [3, 0]), mask, 2)
    assert found.tolist() == [[1, 0], [4, 1], [4, 1]]
    everything = np.ones((1, 5), dtype=np.bool_)
    assert popular_unseen(popularity, lists([0, 1, 2, 3, 4]), everything, 2).tolist() == [[-1, -1]]


def some_space(rng: np.random.Generator, n_items: int) -> ItemSpace:
    vectors = rng.normal(size=(n_items, 3))
    vectors[rng.random(n_items) < 0.2] = 0.0
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    categories = rng.random((n_items, 4)) * (rng.random((n_items, 4)) < 0.5)
    total = categories.sum(axis=1, keepdims=True)
    return ItemSpace(
        vectors=(vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32),
        categories=(categories / np.where(total > 0, total, 1)).astype(np.float32),
        category_names=("a", "b", "c", "d"),
        popularity=np.round(rng.random(n_items), 1),
    )


def mean(figures: list[float]) -> float:
    known = [figure for figure in figures if not math.isnan(figure)]
    return sum(known) / len(known) if known else math.nan


def by_loops(
    shown: list[list[int]], space: ItemSpace, histories: list[list[int]], liked: list[set[int]]
) -> dict[str, float]:
    v, c = space.vectors.astype(np.float64), space.categories.astype(np.float64)
    met = space.popularity[space.popularity > 0]
    p = [share or (met.min() if len(met) else 1.0) / 2 for share in space.popularity]
    rows: dict[str, list[float]] = {name: [] for name in DIVERSITY_METRICS}
    in_lists, in_histories = [], []
    for one, history, likes in zip(shown, histories, liked, strict=True):
        pairs = [1 - float(v[i] @ v[j]) for i, j in combinations(one, 2)]
        rows["intra_list_diversity"].append(sum(pairs) / len(pairs) if pairs else math.nan)
        rows["category_coverage"].append(
            sum(any(c[i, g] > 0 for i in one) for g in range(4)) / 4 if one else math.nan
        )
        q, w = (sum((c[i] for i in items), np.zeros(4)) for items in (one, history))
        q, w = (x / x.sum() if x.sum() > 0 else None for x in (q, w))
        rows["category_entropy"].append(
            math.nan if q is None else sum(-x * math.log2(x) for x in q if x > 0)
        )
        rows["category_calibration_error"].append(
            math.nan
            if q is None or w is None
            else sum(
                x * math.log(x / (0.99 * y + 0.01 * x)) for x, y in zip(w, q, strict=True) if x > 0
            )
        )
        n = len(one)
        rows["novelty"].append(sum(-math.log2(p[i]) for i in one) / n if n else math.nan)
        across = [1 - float(v[i] @ v[j]) for i in one for j in history]
        rows["unexpectedness"].append(sum(across) / len(across) if across else math.nan)
        popular = sorted(set(range(len(p))) - set(history), key=lambda i: (-space.popularity[i], i))
        surprising = likes - set(popular[:WIDTH])
        rows["serendipity"].append(len(surprising & set(one)) / n if n else math.nan)
        if one and history:
            in_lists.append(np.mean([space.popularity[i] for i in one]))
            in_histories.append(np.mean([space.popularity[i] for i in history]))
    counts = np.bincount([i for one in shown for i in one], minlength=len(p))
    apart = np.abs(counts[:, None] - counts).sum() / (2 * len(p) ** 2 * max(counts.mean(), 1e-300))
    own = float(np.sum(in_histories))
    return {
        **{name: mean(figures) for name, figures in rows.items()},
        "catalogue_coverage": len({i for one in shown for i in one}) / len(p),
        "gini": apart * len(p) / (len(p) - 1) if counts.sum() else math.nan,
        "popularity_lift": float(np.sum(in_lists)) / own - 1 if own > 0 else math.nan,
    }


WIDTH = 5


def padded(rows: list[list[int]], width: int) -> np.ndarray:
    rows = [[*row, *[-1] * (width - len(row))] for row in rows]
    return np.array(rows, dtype=np.int64).reshape(-1, width)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_users=st.integers(0, 6))
def test_all_figures_are_those_of_plain_loops(seed: int, n_users: int) -> None:
    rng = np.random.default_rng(seed)
    n_items = int(rng.integers(6, 15))
    space = some_space(rng, n_items)
    shown = [
        rng.choice(n_items, rng.integers(0, WIDTH + 1), replace=False).tolist()
        for _ in range(n_users)
    ]
    histories = [
        rng.choice(n_items, rng.integers(0, 5), replace=False).tolist() for _ in range(n_users)
    ]
    liked = [set(rng.choice(n_items, 4, replace=False).tolist()) for _ in range(n_users)]
    entries, known = padded(shown, WIDTH), padded(histories, 5)
    targets = np.array(
        [[i in likes for i in row] for row, likes in zip(entries, liked, strict=True)]
    )
    found = diversity_figures(
        entries,
        space,
        np.maximum(known, 0),
        known >= 0,
        targets.reshape(-1, WIDTH).astype(np.bool_),
    )
    expected = by_loops(shown, space, histories, liked)
    assert list(found) == list(DIVERSITY_METRICS)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-6, nan_ok=True), name
    without = diversity_figures(entries, space, np.maximum(known, 0), known >= 0)
    assert math.isnan(without.pop("serendipity"))
    assert without == pytest.approx({k: v for k, v in found.items() if k in without}, nan_ok=True)


def test_categories_are_compared_with_what_was_liked_and_all_else_with_the_history() -> None:
    rng = np.random.default_rng(3)
    space = some_space(rng, 30)
    shown, history = rng.integers(0, 30, (50, 4)), rng.integers(0, 30, (50, 6))
    mask = np.ones((50, 6), dtype=np.bool_)
    liked = np.arange(6) < 2
    whole, of_liked, short = (
        diversity_figures(shown, space, history[:, :width], mask[:, :width], liked=marks)
        for width, marks in ((6, None), (6, mask & liked), (2, None))
    )
    name = "category_calibration_error"
    assert of_liked.pop(name) == pytest.approx(short[name])
    assert whole.pop(name) != pytest.approx(short[name])
    assert of_liked == pytest.approx(whole, nan_ok=True)


def test_figures_do_not_depend_on_how_users_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    space = some_space(rng, 30)
    shown = rng.integers(0, 30, (50, 4))
    history, mask = rng.integers(0, 30, (50, 6)), rng.random((50, 6)) < 0.6
    whole = diversity_figures(shown, space, history, mask, shown < 9)
    monkeypatch.setattr(diversity, "_CELLS_AT_ONCE", 200)
    assert diversity_figures(shown, space, history, mask, shown < 9) == whole


def test_lists_of_another_catalogue_are_refused() -> None:
    space = some_space(np.random.default_rng(2), 8)
    nothing = np.zeros((1, 1), dtype=np.bool_)
    with pytest.raises(ModelError, match="item index 8"):
        diversity_figures(lists([8]), space, lists([0]), nothing)
    # What padding of a history holds does not matter.
    diversity_figures(lists([7]), space, lists([99]), nothing)
