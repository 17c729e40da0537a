"""The catalogue as re-ranking sees it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metarec_core.episodes.types import InteractionMatrix, ValueScale
from metarec_core.errors import ConfigError, ModelError
from metarec_core.features.spec import FeatureSpec
from metarec_core.learners.average import Average, Member
from metarec_core.learners.average_weights import ListWeights
from metarec_core.learners.base import ItemFactors
from metarec_core.learners.ease import Ease
from metarec_core.ranking.diversity.categories import MOST_CATEGORIES, Categories
from metarec_core.ranking.diversity.space import ItemSpace, item_space, relevant_share
from metarec_core.schema import Feedback

POPULARITY = np.array([0.5, 0.0, 0.2])


class Factored:
    """A learner of three items with given vectors."""

    name = "factored"

    def __init__(self, vectors: list[list[float]]) -> None:
        self.vectors = torch.tensor(vectors, dtype=torch.float64)

    def item_factors(self) -> ItemFactors:
        return ItemFactors(self.vectors, torch.zeros(len(self.vectors), dtype=torch.float64))


def average_of(weights: dict[str, float] | None = None, **learners: object) -> Average:
    average = Average(Average.Config())
    average.members = [Member(name, learner) for name, learner in learners.items()]
    average.lists = ListWeights(len(learners))
    with torch.no_grad():
        for place, name in enumerate(learners):
            average.lists.level[:, place] = (weights or {}).get(name, 0.0)
    return average


def test_vectors_are_the_learner_s_own_less_their_mean_of_length_1() -> None:
    learner = Factored([[13.0, 4.0], [7.0, -4.0], [0.0, 0.0]])
    space = item_space(learner, POPULARITY)
    # The mean of the two that are known is (10, 0); the third stays unknown.
    np.testing.assert_allclose(space.vectors, [[0.6, 0.8], [-0.6, -0.8], [0.0, 0.0]], atol=1e-7)
    assert space.vectors.dtype == np.float32
    assert space.category_names == ()
    assert learner.vectors[0].tolist() == [13.0, 4.0]


def test_what_all_items_share_does_not_make_them_alike() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3, 4))
    plain, shifted = (
        item_space(Factored((vectors + shift).tolist()), POPULARITY).vectors
        for shift in (0.0, [5.0, -3.0, 0.0, 100.0])
    )
    np.testing.assert_allclose(plain, shifted, atol=1e-6)


def test_of_an_average_the_member_that_counts_most_and_tells_items_apart() -> None:
    one, other = (Factored([row, [0.0, 0.0], [0.0, 0.0]]) for row in ([9.0, 0.0], [0.0, 9.0]))
    one.vectors[1], other.vectors[1] = -one.vectors[0], -other.vectors[0]
    plain = Factored([[1.0], [2.0], [3.0]])
    members = {"bias": plain, "ease": Ease(Ease.Config()), "gaussian": one, "amortised": other}
    for heavy, expected in (("gaussian", [1.0, 0.0]), ("amortised", [0.0, 1.0])):
        average = average_of({"bias": 9.0, "ease": 9.0, heavy: 3.0}, **members)
        assert item_space(average, POPULARITY).vectors[0].tolist() == expected


def test_without_vectors_features_say_what_is_alike_then_categories() -> None:
    ease = average_of(bias=Factored([[1.0]] * 3), ease=Ease(Ease.Config()))
    features = np.array([[1990.0, 1.0], [2000.0, 1.0], [2010.0, 1.0]], dtype=np.float32)
    by_feature = item_space(ease, POPULARITY, item_features=features)
    # Columns are centred and scaled alike; one that is the same everywhere says nothing.
    np.testing.assert_allclose(by_feature.vectors, [[-1, 0], [0, 0], [1, 0]], atol=1e-6)
    categories = Categories.of_lists(pl.Series([["a", "b"], ["b"], []], dtype=pl.List(pl.String)))
    by_category = item_space(ease, POPULARITY, categories=categories, item_features=features[:, :0])
    half = 0.5**0.5
    np.testing.assert_allclose(by_category.vectors, [[half, half], [0, 1], [0, 0]], atol=1e-6)
    assert item_space(ease, POPULARITY).vectors.shape == (3, 0)


def test_popularity_counts_users_with_a_relevant_interaction() -> None:
    matrix = InteractionMatrix(
        np.array([0, 2, 4, 4]),
        np.array([0, 1, 0, 2]),
        np.array([5.0, 3.0, 4.0, 1.0], dtype=np.float32),
    )
    scale = ValueScale(Feedback.EXPLICIT, 1.0, 5.0, 4.0)
    np.testing.assert_allclose(relevant_share(matrix, scale, 4), [2 / 3, 0, 0, 0])


def test_an_item_that_nobody_met_is_half_as_popular_as_the_least_popular() -> None:
    space = item_space(Factored([[0.0, 0.0]] * 3), POPULARITY)
    np.testing.assert_allclose(space.log_popularity, np.log([0.5, 0.1, 0.2]))
    nobody = replace(space, popularity=np.zeros(3))
    np.testing.assert_allclose(nobody.log_popularity, np.log([0.5] * 3))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_categories=st.integers(0, 6))
def test_tastes_are_mean_distributions(seed: int, n_categories: int, make_space, make_pool) -> None:
    rng = np.random.default_rng(seed)
    space, pool = make_space(rng, n_categories=n_categories), make_pool(rng)
    tastes = space.tastes(pool.history, pool.history_mask)
    assert tastes.shape == (4, n_categories)
    for row in range(4):
        own = space.categories[pool.history[row][pool.history_mask[row]]].astype(np.float64)
        own = own[own.sum(axis=1) > 0]
        expected = own.mean(axis=0) if len(own) else np.zeros(n_categories)
        np.testing.assert_allclose(tastes[row], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ({"vectors": np.full((3, 2), np.nan, dtype=np.float32)}, "length 1 or 0"),
        ({"vectors": np.ones((3, 2), dtype=np.float32)}, "length 1 or 0"),
        ({"vectors": np.zeros((2, 2), dtype=np.float32)}, "2 rows of vectors"),
        ({"categories": np.full((3, 1), 0.5, dtype=np.float32)}, "no distribution"),
        ({"category_names": ("a", "b")}, "2 names of 1 categories"),
        ({"popularity": np.array([0.1, 2.0, 0.0])}, "popularity"),
        ({"popularity": np.array([0.1, np.nan, 0.0])}, "popularity"),
    ],
)
def test_a_space_that_is_none_is_refused(part: dict, found: str) -> None:
    space = ItemSpace(
        np.zeros((3, 2), dtype=np.float32), np.ones((3, 1), dtype=np.float32), ("a",), POPULARITY
    )
    with pytest.raises(ModelError, match="item space") as error:
        replace(space, **part)
    assert found in error.value.found


SPECS = {
    "year": FeatureSpec(column="y", kind="numeric"),
    "genres": FeatureSpec(column="g", kind="multi"),
    "country": FeatureSpec(column="c", kind="categorical"),
}
ITEMS = pl.DataFrame(
    {
        "year": [1990.0, 2000.0, 2010.0],
        "genres": [["War", "Drama"], ["Drama", "Drama"], []],
        "country": ["fr", "(missing)", "de"],
    }
)


def test_categories_of_a_list_share_an_item() -> None:
    categories = Categories.of(ITEMS, SPECS)
    assert categories.names == ("Drama", "War")
    assert categories.shares.tolist() == [[0.5, 0.5], [1.0, 0.0], [0.0, 0.0]]


def test_a_named_feature_of_one_category_an_item() -> None:
    categories = Categories.of(ITEMS, SPECS, "country")
    assert categories.names == ("de", "fr")
    assert categories.shares.tolist() == [[0.0, 1.0], [0.0, 0.0], [1.0, 0.0]]


def test_a_feature_that_has_no_categories_is_refused() -> None:
    for name in ("year", "directors"):
        with pytest.raises(ConfigError, match="genres, country"):
            Categories.of(ITEMS, SPECS, name)
    only_numbers = Categories.of(ITEMS, {"year": SPECS["year"]})
    assert only_numbers.names == ()
    assert only_numbers.shares.shape == (3, 0)


def test_only_the_most_frequent_categories_are_kept() -> None:
    n = MOST_CATEGORIES + 40
    # Category i belongs to items i and up to the number of items.
    values = pl.Series([[f"{place:04d}" for place in range(item + 1)] for item in range(n)])
    categories = Categories.of_lists(values)
    assert len(categories.names) == MOST_CATEGORIES
    assert categories.names[-1] == f"{MOST_CATEGORIES - 1:04d}"
    np.testing.assert_allclose(categories.shares.sum(axis=1), 1.0, atol=1e-5)
