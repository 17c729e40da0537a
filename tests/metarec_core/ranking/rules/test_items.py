from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from metarec_core.errors import ConfigError
from metarec_core.ranking.rules import Rules, RulesDocument, item_categories, item_facts
from metarec_core.ranking.rules.items import MOST_CATEGORIES, UNKNOWN_TIME

CATALOGUE = pl.DataFrame({"item_id": ["a", "b", "c", "d"], "title": ["A", "B", "C", "D"]})
ITEMS = pl.DataFrame(
    {
        "item_id": ["d", "b", "a"],
        "title": ["D", "B", "A"],
        "genres": [["X", "Y"], [], ["Y"]],
        "kind": ["film", "(missing)", "series"],
        "born": [1.7e9, 1.6e9, 1.5e9],
        "born:missing": [False, True, False],
        "year": [1998.0, 1999.0, 2000.0],
        "millis": [1.7e12, 1.6e12, 1.5e12],
    },
    schema_overrides={"genres": pl.List(pl.String)},
)


def facts(**document):
    return item_facts(Rules(RulesDocument(**document)), ITEMS, CATALOGUE)


def test_a_feature_of_lists_is_aligned_with_the_catalogue():
    found = facts(categories="genres").categories
    assert found.names == ("X", "Y")
    assert found.matrix.tolist() == [[0, 1], [0, 0], [0, 0], [1, 1]]


def test_a_feature_of_single_values_is_aligned_and_what_was_imputed_is_no_category():
    found = facts(categories="kind").categories
    assert found.names == ("film", "series")
    assert found.matrix.tolist() == [[0, 1], [0, 0], [0, 0], [1, 0]]


def test_nulls_inside_lists_and_repeats_are_harmless():
    found = item_categories(pl.Series("g", [["b", None, "b", "a"], None, [None], []]))
    assert found.names == ("a", "b")
    assert found.matrix.tolist() == [[1, 1], [0, 0], [0, 0], [0, 0]]


def test_an_item_without_any_category_and_no_items_at_all():
    assert item_categories(pl.Series("g", [None, None], dtype=pl.String)).matrix.shape == (2, 0)
    assert item_categories(pl.Series("g", [], dtype=pl.List(pl.String))).matrix.shape == (0, 0)


def test_times_are_aligned_and_imputed_ones_unknown():
    known = facts(min_age_days=1, age_from="born").known_since
    assert known.dtype == np.int64
    assert known.tolist() == [1_500_000_000, UNKNOWN_TIME, UNKNOWN_TIME, 1_700_000_000]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"categories": "genre"}, ["setting categories: found 'genre'", "did you mean 'genres'?"]),
        ({"categories": "title"}, ["setting categories: found 'title'"]),
        ({"categories": "year"}, ["of type Float64", "kind multi or categorical"]),
        ({"min_age_days": 1, "age_from": "birth"}, ["setting age_from: found 'birth'", "genres"]),
        ({"min_age_days": 1, "age_from": "kind"}, ["of type String", "a numeric feature"]),
        ({"min_age_days": 1, "age_from": "year"}, ["largest value 2000", "years, days or"]),
        ({"min_age_days": 1, "age_from": "millis"}, ["largest value 1.7e+12", "milliseconds"]),
    ],
)
def test_a_feature_that_does_not_fit_is_named(document, said):
    with pytest.raises(ConfigError) as caught:
        facts(**document)
    for text in said:
        assert text in str(caught.value)


def test_a_text_is_no_feature_of_categories():
    column = pl.Series("plot", [f"text {n}" for n in range(MOST_CATEGORIES + 1)])
    with pytest.raises(ConfigError, match=f"wanted at most {MOST_CATEGORIES} categories"):
        item_categories(column)
