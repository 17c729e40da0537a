"""An item by what people type."""

import polars as pl
import pytest

from metarec_core.errors import DatasetError
from metarec_core.reporting.find_item import find_item

CATALOGUE = pl.DataFrame(
    {
        "item_id": ["12", "50", "7", "8", "900", "1984", "13"],
        "title": [
            "Usual Suspects, The (1995)",
            "Star Wars (1977)",
            "Star Trek (1979)",
            "Cité des enfants perdus, La",
            "Alien",
            "Alien Resurrection",
            None,
        ],
    }
)


@pytest.mark.parametrize(
    ("typed", "row"),
    [
        ("50", 1),
        ("1984", 5),
        ("the usual suspects (1995)", 0),
        ("Usual Suspects, The (1995)", 0),
        ("usual suspects", 0),
        ("suspects", 0),
        ("STAR WARS", 1),
        ("la cite des enfants perdus", 3),
        ("alien", 4),
        ("resurrection", 5),
        ("13", 6),
    ],
)
def test_ids_come_before_titles_and_whole_titles_before_parts(typed: str, row: int) -> None:
    assert find_item(CATALOGUE, typed) == row


def test_several_titles_are_named() -> None:
    with pytest.raises(DatasetError) as caught:
        find_item(CATALOGUE, "star")
    assert caught.value.found == "2 items: 50 (Star Wars (1977)), 7 (Star Trek (1979))"


@pytest.mark.parametrize("typed", ["uusal suspects the 1995", "nonsense", "", "sta"])
def test_an_unknown_title_is_an_error_with_what_is_close(typed: str) -> None:
    with pytest.raises(DatasetError) as caught:
        find_item(CATALOGUE, typed)
    assert ("12 (The Usual Suspects (1995))" in caught.value.wanted) == typed.startswith("uusal")
    assert caught.value.found == "none of the 7 items of the model"
