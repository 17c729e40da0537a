from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metarec_core.cleaning.accounting import Accounting, Action
from metarec_core.errors import StorageError, ValidationError
from metarec_core.schema import INTERACTIONS_SCHEMA, Table
from metarec_core.storage import StageFacts

Clean = Callable[..., StageFacts]


def table(tmp_path: Path, name: str, out: str = "out") -> pl.DataFrame:
    return pl.read_parquet(tmp_path / out / f"{name}.parquet")


def test_each_illegal_row_is_dropped_for_its_reason(tmp_path: Path, clean: Clean) -> None:
    facts = clean(
        [
            ("u", "i", 3.0, 10),
            (None, "i", 3.0, 10),
            ("  ", "i", 3.0, 10),
            ("u", None, 3.0, 10),
            ("u", "j", None, 10),
            ("u", "j", float("nan"), 10),
            ("u", "j", 0.5, 10),
            ("u", "j", 5.5, 10),
            ("u", "j", 3.0, 0),
            ("u", "j", 3.0, -5),
            ("u", "j", 3.0, 4_102_444_800),
            ("u", "k", 3.0, None),
            ("u", "l", 3.0, 4_102_444_799),
        ]
    )
    assert facts.facts["dropped"] == {
        "interactions": {
            "impossible_time": 3,
            "null_item_id": 1,
            "null_user_id": 2,
            "null_value": 2,
            "value_out_of_range": 2,
        }
    }
    assert (facts.rows_in, facts.rows_out) == (13, 3)
    frame = table(tmp_path, "interactions")
    assert frame.schema == INTERACTIONS_SCHEMA
    assert frame["item_id"].to_list() == ["i", "k", "l"]


@pytest.mark.parametrize(
    ("rule", "value", "row"), [("last", 5.0, 3), ("first", 1.0, 4), ("mean", 3.0, 3)]
)
def test_duplicates_follow_the_rule_and_ties_the_source_row(
    tmp_path: Path, clean: Clean, rule: str, value: float, row: int
) -> None:
    # A row without a time is the oldest; of the two newest the later row wins.
    facts = clean(
        [
            ("u", "i", 2.0, 20),
            ("u", "i", 4.0, 30),
            ("u", "i", 5.0, 30),
            ("u", "i", 1.0, None),
            ("u", "j", 2.0, 1),
        ],
        duplicates=rule,
    )
    kept = table(tmp_path, "interactions").row(0, named=True)
    assert (kept["value"], kept["source_row"]) == (value, row)
    assert facts.facts["dropped"]["interactions"] == {"duplicate": 3}
    averaged = {"interactions": {"averaged": 1}} if rule == "mean" else {}
    assert facts.facts["changed"] == averaged


def test_blanks_around_ids_are_trimmed_before_pairs_are_compared(
    tmp_path: Path, clean: Clean
) -> None:
    facts = clean([("u ", "i", 2.0, 1), ("u", "\u00a0i\t", 3.0, 2)])
    assert table(tmp_path, "interactions").rows() == [("u", "i", 3.0, 2, 2)]
    assert facts.facts["changed"]["interactions"] == {"trimmed": 1}


def test_k_core_is_taken_to_its_fixpoint(tmp_path: Path, clean: Clean) -> None:
    # c goes, so item z falls below two, so d goes.
    pairs = ["ax", "ay", "bx", "by", "cz", "dz", "dx"]
    facts = clean(
        [(user, item, 3.0, 1) for user, item in pairs],
        min_user_interactions=2,
        min_item_interactions=2,
    )
    frame = table(tmp_path, "interactions")
    assert frame["user_id"].to_list() == ["a", "a", "b", "b"]
    assert facts.facts["dropped"]["interactions"] == {
        "few_item_interactions": 1,
        "few_user_interactions": 2,
    }
    assert table(tmp_path, "users")["user_id"].to_list() == ["a", "b"]


def test_side_tables_are_unique_complete_and_titled(tmp_path: Path, clean: Clean) -> None:
    facts = clean(
        [("new", "i", 3.0, 1), ("u", "unlisted", 3.0, 1)],
        users=[
            ("u", 1, 20.0, "cook"),
            ("u", 2, 30.0, " baker "),
            (None, 3, 1.0, None),
            ("v", 4, float("inf"), ""),
        ],
        items=[("j", " J ", 1, ["b"]), ("i", None, 2, None)],
    )
    assert table(tmp_path, "users").rows() == [
        ("new", None, None, None),
        ("u", 2, 30.0, "baker"),
        ("v", 4, None, None),
    ]
    assert table(tmp_path, "items").rows() == [
        ("i", "i", 2, None),
        ("j", "J", 1, ["b"]),
        ("unlisted", "unlisted", None, None),
    ]
    assert facts.facts == {
        "read": {"interactions": 2, "users": 4, "items": 2},
        "kept": {"interactions": 2, "users": 2, "items": 2},
        "dropped": {"users": {"duplicate": 1, "null_id": 1}},
        "changed": {
            "users": {"not_finite": 1, "trimmed": 1},
            "items": {"title_from_id": 1, "trimmed": 1},
        },
        "added": {
            "users": {"from_interactions": 1},
            "items": {"from_interactions": 1},
        },
    }
    books = table(tmp_path, "accounting")
    assert books.columns == ["table", "reason", "action", "rows"]
    assert ("users", "duplicate", "dropped", 1) in books.rows()


def test_without_side_tables_users_and_items_come_from_interactions(
    tmp_path: Path, clean: Clean
) -> None:
    clean([("u", "i", 3.0, 1)])
    assert table(tmp_path, "users").rows() == [("u", None)]
    assert table(tmp_path, "items").rows() == [("i", "i", None)]


def test_nothing_left_is_an_error_with_the_reasons(clean: Clean) -> None:
    with pytest.raises(ValidationError) as caught:
        clean([("u", "i", 9.0, 1), ("u", "i", 3.0, 0)])
    assert "impossible_time 1, value_out_of_range 1" in caught.value.found
    assert "timestamp_unit" in caught.value.next_step


def test_books_that_do_not_balance_are_refused() -> None:
    books = Accounting()
    books.count(Table.USERS, Action.READ, "", 3)
    books.count(Table.USERS, Action.KEPT, "", 1)
    books.count(Table.USERS, Action.DROPPED, "null_id", 1)
    with pytest.raises(StorageError, match="3 read, 1 dropped, 1 kept"):
        books.require_balance({Table.USERS: 1})


def test_bytes_do_not_depend_on_threads(tmp_path: Path, clean: Clean) -> None:
    rows = [
        (f"u{n * 7 % 311}", f"i{n * 13 % 101}", 1.0 + n % 41 / 10, 1 + n % 17)
        for n in range(20_000)
    ]
    for threads in (1, 2, 4):
        clean(rows, out=f"out{threads}", threads=threads, duplicates="mean")
    for name in ("interactions", "users", "items", "accounting"):
        contents = {
            (tmp_path / f"out{threads}" / f"{name}.parquet").read_bytes() for threads in (1, 2, 4)
        }
        assert len(contents) == 1, name


IDS = st.sampled_from(["a", "b", "c", " a", "b ", "", " ", None, "d"])
VALUES = st.one_of(
    st.none(), st.floats(0.1, 6.0), st.sampled_from([1.0, 5.0, float("nan"), float("inf")])
)
TIMES = st.one_of(st.none(), st.integers(-2, 5), st.sampled_from([4_102_444_800, 2**62]))
ROWS = st.lists(st.tuples(IDS, IDS, VALUES, TIMES), min_size=1, max_size=40)
AGES = st.sampled_from([None, 1.0, float("nan")])
USER_ROWS = st.none() | st.lists(st.tuples(IDS, AGES, IDS), max_size=8)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=ROWS,
    users=USER_ROWS,
    duplicates=st.sampled_from(["last", "first", "mean"]),
    core=st.integers(1, 3),
)
def test_every_row_is_accounted_for_whatever_the_dirt(
    tmp_path: Path,
    clean: Clean,
    rows: list[tuple[Any, ...]],
    users: list[tuple[Any, ...]] | None,
    duplicates: str,
    core: int,
) -> None:
    numbered = None if users is None else [(u, n, a, j) for n, (u, a, j) in enumerate(users)]
    try:
        facts = clean(
            rows,
            users=numbered,
            duplicates=duplicates,
            min_user_interactions=core,
            min_item_interactions=core,
        )
    except ValidationError:
        return
    frame = table(tmp_path, "interactions")
    dropped = sum(facts.facts["dropped"].get("interactions", {}).values())
    assert len(rows) == len(frame) + dropped
    assert not frame.select("user_id", "item_id").is_duplicated().any()
    assert frame["value"].is_between(1.0, 5.0).all()
    assert frame.drop("timestamp").null_count().sum_horizontal().item() == 0
    assert frame["timestamp"].drop_nulls().is_between(1, 4_102_444_799).all()
    assert frame["user_id"].is_in(["a", "b", "c", "d"]).all()
    assert frame["user_id"].value_counts()["count"].min() >= core
    assert frame["item_id"].value_counts()["count"].min() >= core
    assert frame.equals(frame.sort("user_id", "item_id"))
    people = table(tmp_path, "users")
    assert not people["user_id"].is_duplicated().any()
    assert frame["user_id"].is_in(people["user_id"].implode()).all()
    if users is not None:
        kept = facts.facts["kept"].get("users", 0)
        gone = sum(facts.facts["dropped"].get("users", {}).values())
        assert len(users) == kept + gone
