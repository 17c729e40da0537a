"""Each expectation is caught out by one planted fault, and that fault by it alone.

Faults of rows are planted together, each with a user of its own, and judged once: an expectation
must name its own user's rows and nobody else's. Faults of whole tables are judged one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from metarec_core.schema import INTERACTIONS_SCHEMA, RECOMMENDATIONS_SCHEMA, SEGMENT_BANDS
from tasks.quality import Failure, QualityReport
from tasks.quality.suites import EXPECTATIONS, QUERY, read_suite

Tables = dict[str, pl.DataFrame]
Rows = list[dict[str, Any]]
Fault = Callable[[Rows], Rows]
TableFault = Callable[[pl.DataFrame], pl.DataFrame]

SUITES = sorted(path.stem for path in EXPECTATIONS.glob("*.json"))
ROWS_APART = 10


def put(row: int, **cells: Any) -> Fault:
    """Overwrite cells of one of the user's rows."""
    return lambda rows: [{**one, **cells} if number == row else one
                         for number, one in enumerate(rows)]  # fmt: skip


def again(**cells: Any) -> Fault:
    """Repeat the user's first row with other cells."""
    return lambda rows: [*rows, {**rows[0], **cells}]


def renamed(rows: Rows) -> Rows:
    """The user's rows again, for a user who does not exist."""
    return [*rows, *({**row, "user_id": f"{row['user_id']}-stranger"} for row in rows)]


def seen(rows: Rows) -> Rows:
    """Recommend an item that the user has an interaction with."""
    number = int(rows[0]["user_id"].removeprefix("u"))
    return put(0, item_id=f"i{number % 9}")(rows)


def flagged(rows: Rows) -> Rows:
    """A list whose last entry says that the list is short."""
    return put(len(rows) - 1, rule_flags=["short: no reason at all"])(rows)


def same_item(rows: Rows) -> Rows:
    """Recommend the first item twice."""
    return put(1, item_id=rows[0]["item_id"])(rows)


ROW_FAULTS: dict[str, dict[str, Fault]] = {
    "interactions": {
        "user_id_not_null": put(1, user_id=None),
        "item_id_not_null": put(1, item_id=None),
        "value_not_null": put(1, value=None),
        "value_in_scale": put(1, value=5.5),
        "timestamp_plausible": put(1, timestamp=10**12),
        "pairs_unique": again(),
        "users_known": put(1, user_id="stranger"),
        "items_known": put(1, item_id="unheard of"),
    },
    "users": {"user_id_not_null": again(user_id=None), "user_id_unique": again()},
    "items": {
        "item_id_not_null": again(item_id=None),
        "item_id_unique": again(),
        "title_not_null": put(0, title=None),
    },
    "recommendations": {
        "run_date_not_null": put(1, run_date=None),
        "user_id_not_null": again(user_id=None),
        # Users with a short list: in one of full length, a gap is a rank out of range as well.
        "ranks_contiguous": put(1, rank=3),
        "short_lists_say_why": put(1, rule_flags=["pinned"]),
        "rank_not_null": put(2, rank=None),
        "item_id_not_null": put(1, item_id=None),
        "title_not_null": put(1, title=None),
        "score_not_null": put(1, score=None),
        "segment_not_null": put(1, segment=None),
        "support_size_not_null": put(1, support_size=None),
        "reasons_not_null": put(1, reasons=None),
        "rule_flags_not_null": put(1, rule_flags=None),
        "rank_in_range": lambda rows: [{**row, "rank": row["rank"] - 1} for row in rows],
        "segment_known": put(1, segment="many"),
        "support_size_not_negative": put(1, support_size=-1),
        "run_date_of_run": put(1, run_date=date(2026, 11, 23)),
        "ranks_unique": put(2, rank=2),
        "items_unique": same_item,
        "list_length": lambda rows: flagged(rows[:-1]),
        "users_present": lambda rows: [],
        "users_known": renamed,
        "catalogue_known": put(1, item_id="i8"),
        "items_known": put(1, item_id="gone"),
        "no_seen_items": seen,
        "score_finite": put(0, score=math.inf),
        "rating_finite": put(0, rating=math.nan),
        "sd_positive": put(0, sd=0.0),
        "rating_with_sd": put(0, sd=None),
        "p_relevant_is_a_probability": put(0, p_relevant=1.5),
        "reasons_sum_to_score": put(0, reasons=[{"kind": "item", "share": 4.0001}]),
        "reasons_known": put(0, reasons=[{"kind": "whim", "share": 1.0}]),
        "reasons_finite": put(0, reasons=[{"kind": "deletion", "item_id": "i1", "share": None}]),
        "reasons_name_their_subject": put(0, reasons=[{"kind": "feature", "share": 1.0}]),
    },
}

TABLE_FAULTS: dict[str, dict[str, TableFault]] = {
    "interactions": {
        "columns": lambda frame: frame.drop("value"),
        "row_count": lambda frame: frame.filter(pl.col("source_row") % 5 == 0),
        "user_count": lambda frame: frame.filter(pl.col("source_row") >= 4 * ROWS_APART),
        "item_count": lambda frame: frame.filter(pl.col("item_id") != "i1"),
        "fresh": lambda frame: frame.with_columns(pl.col("timestamp") - 3 * 86_400),
    },
    "users": {
        "columns": lambda frame: frame.rename({"user_id": "name"}),
        "row_count": lambda frame: frame.head(0),
    },
    "items": {
        "columns": lambda frame: frame.drop("title"),
        "row_count": lambda frame: frame.head(0),
    },
    "recommendations": {"columns": lambda frame: frame.select(sorted(frame.columns))},
}


def table_of(suite: str) -> tuple[str, str]:
    """Kind and table of a suite: ``raw_users`` is ``raw``, ``users``."""
    kind, _, table = suite.partition("_")
    return kind, table or kind


def not_asked(suite: str) -> set[str]:
    """Expectations of raw data that cleaned data does not repeat."""
    return {"fresh"} if suite.startswith("clean") else set()


def cases(faults: dict[str, dict[str, Any]]) -> list[Any]:
    """Every (suite, expectation) that has a fault of this sort."""
    return [
        pytest.param(suite, one["meta"]["name"], id=f"{suite}.{one['meta']['name']}")
        for suite in SUITES
        for one in read_suite(suite)["expectations"]
        if one["meta"]["name"] in faults[table_of(suite)[1]]
    ]


def declared(suite: str, expectation: str) -> dict[str, Any]:
    """The expectation as its suite states it."""
    [found] = [one for one in read_suite(suite)["expectations"]
               if one["meta"]["name"] == expectation]  # fmt: skip
    return found


def plant(frame: pl.DataFrame, faults: dict[str, Fault], owner: str) -> pl.DataFrame:
    """The frame with the n-th fault in the rows of the n-th owner."""
    groups = [group.to_dicts() for group in frame.partition_by(owner, maintain_order=True)]
    assert len(groups) >= len(faults)
    for number, fault in enumerate(faults.values()):
        groups[number] = fault(groups[number])
    return pl.DataFrame([row for group in groups for row in group], schema=frame.schema)


@pytest.fixture(scope="session")
def planted(
    pristine: Callable[[], Tables], judge_in: Callable[..., QualityReport]
) -> dict[str, QualityReport]:
    """One report a kind, with every fault of rows planted."""
    tables = pristine()
    spoilt = {
        "interactions": plant(tables["interactions"], ROW_FAULTS["interactions"], "user_id"),
        "users": plant(tables["users"], ROW_FAULTS["users"], "user_id"),
        "items": plant(tables["items"], ROW_FAULTS["items"], "item_id"),
    }
    lists = plant(tables["recommendations"], ROW_FAULTS["recommendations"], "user_id")
    return {
        "raw": judge_in("raw", {**tables, **spoilt}),
        "clean": judge_in("clean", {**tables, **spoilt}),
        "recommendations": judge_in("recommendations", {**tables, "recommendations": lists}),
    }


def owners(failure: Failure) -> set[int]:
    """Numbers of the users or items whose rows a failure names."""
    if "interactions" in failure.suite:
        return {row["source_row"] // ROWS_APART for row in failure.rows}
    if failure.suite == "recommendations":
        nobody = list(ROW_FAULTS["recommendations"]).index("user_id_not_null")
        return {
            int(row["user_id"].removesuffix("-stranger")[1:]) if row["user_id"] else nobody
            for row in failure.rows
        }
    return {row["source_row"] - 1 for row in failure.rows}


@pytest.mark.parametrize(("suite", "expectation"), cases(ROW_FAULTS))
def test_fault_of_rows_is_named_by_its_expectation_alone(
    suite: str, expectation: str, planted: dict[str, QualityReport]
) -> None:
    kind, table = table_of(suite)
    number = list(ROW_FAULTS[table]).index(expectation)
    failures = [one for one in planted[kind].critical + planted[kind].warnings
                if one.suite == suite]  # fmt: skip
    assert [one.expectation for one in failures if number in owners(one)] == [expectation]
    [failure] = [one for one in failures if one.expectation == expectation]
    assert owners(failure) == {number}
    assert failure.unexpected_count == len(failure.rows)
    assert failure.severity == declared(suite, expectation)["severity"]


@pytest.fixture(scope="session")
def broken(
    pristine: Callable[[], Tables], judge_in: Callable[..., QualityReport]
) -> Callable[[str, int], QualityReport]:
    """The report on one kind of tables, each with the n-th of its faults."""

    @cache
    def report(kind: str, number: int) -> QualityReport:
        tables = pristine()
        for table, faults in TABLE_FAULTS.items():
            for fault in list(faults.values())[number : number + 1]:
                if (table == "recommendations") == (kind == "recommendations"):
                    tables[table] = fault(tables[table])
        return judge_in(kind, tables)

    return report


@pytest.mark.parametrize(("suite", "expectation"), cases(TABLE_FAULTS))
def test_fault_of_a_table_is_caught_by_its_expectation_alone(
    suite: str, expectation: str, broken: Callable[[str, int], QualityReport]
) -> None:
    kind, table = table_of(suite)
    report = broken(kind, list(TABLE_FAULTS[table]).index(expectation))
    failures = [one for one in report.critical + report.warnings if one.suite == suite]
    if table == "interactions":
        # They point to rows that a side table, broken with them, has lost.
        failures = [one for one in failures if not one.expectation.endswith("_known")]
    assert [one.expectation for one in failures] == [expectation]
    assert failures[0].severity == declared(suite, expectation)["severity"]


def test_nan_is_seen_although_parquet_statistics_leave_it_out(
    healthy: Tables, judged: Callable[..., QualityReport]
) -> None:
    nan = pl.when(pl.col("user_id") == "u5").then(math.nan).otherwise(4.0)
    healthy["interactions"] = healthy["interactions"].with_columns(nan.alias("value"))
    lists = healthy["recommendations"]
    floats = [nan.alias(column) for column in ("score", "rating", "sd")]
    healthy["recommendations"] = lists.with_columns(
        *floats, pl.lit([]).cast(lists.schema["reasons"]).alias("reasons")
    )

    def caught(kind: str) -> set[tuple[str, int | None]]:
        return {(one.expectation, one.unexpected_count) for one in judged(kind, healthy).critical}

    assert caught("raw") == {("value_in_scale", 4)}
    assert caught("recommendations") == {
        ("score_finite", 3),
        ("rating_finite", 3),
        ("sd_positive", 3),
    }


def names(report: QualityReport) -> list[str]:
    return [one.expectation for one in report.critical + report.warnings]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lists: lists.with_columns(extra=pl.lit(1)), "unknown columns extra"),
        (lambda lists: lists.drop("title"), "no column title"),
        (lambda lists: lists.select(sorted(lists.columns)), "the columns in the order item_id, "),
    ],
)
def test_columns_at_fault_are_named(
    healthy: Tables, judged: Callable[..., QualityReport], change: TableFault, words: str
) -> None:
    healthy["recommendations"] = change(healthy["recommendations"])
    [failure] = judged("recommendations", healthy).critical
    assert words in failure.found


def test_rules_may_shorten_lists_that_say_so(
    healthy: Tables, judge_in: Callable[..., QualityReport], tmp_path: Path
) -> None:
    lists = healthy["recommendations"].filter(
        (pl.col("user_id") != "u7") & ((pl.col("user_id") != "u8") | (pl.col("rank") < 3))
    )
    short = pl.when((pl.col("user_id") == "u8") & (pl.col("rank") == 2))
    said = lists.with_columns(
        rule_flags=short.then(pl.lit(["short: 2 of 3, caps leave out all others"])).otherwise(
            pl.col("rule_flags")
        )
    )
    note = pl.DataFrame({"user_id": ["u7"], "entries": [0], "note": ["short: no open item"]})
    note.write_parquet(tmp_path / "short.parquet")

    def judge(frame: pl.DataFrame, **settings: Any) -> list[str]:
        return names(judge_in("recommendations", {**healthy, "recommendations": frame}, **settings))

    assert judge(said, ruled=True, short_lists=tmp_path / "short.parquet") == []
    assert judge(lists, ruled=True, short_lists=tmp_path / "short.parquet") == [
        "short_lists_say_why"
    ]
    assert judge(said, ruled=True) == ["users_present"]
    assert judge(said, short_lists=tmp_path / "short.parquet") == ["list_length"]


def test_seen_items_come_back_when_the_rule_lets_them(
    healthy: Tables, judge_in: Callable[..., QualityReport]
) -> None:
    midnight = datetime.combine(date(2026, 11, 24), datetime.min.time(), UTC).timestamp()
    seen_at = {"u5": midnight - 10 * 86_400, "u6": midnight - 10 * 86_400 + 1}
    healthy["interactions"] = healthy["interactions"].with_columns(
        timestamp=pl.col("user_id").replace_strict(seen_at, default=10**9).cast(pl.Int64)
    )
    lists = healthy["recommendations"]
    again = (pl.col("user_id").is_in(list(seen_at))) & (pl.col("rank") == 1)
    number = pl.col("user_id").str.tail(1)
    healthy["recommendations"] = lists.with_columns(
        item_id=pl.when(again).then(pl.concat_str(pl.lit("i"), number)).otherwise("item_id")
    )

    def at_fault(days: int | None) -> set[str]:
        report = judge_in("recommendations", healthy, ruled=True, consumed_after_days=days)
        assert set(names(report)) <= {"no_seen_items"}
        return {row["user_id"] for one in report.critical for row in one.rows}

    assert at_fault(None) == {"u5", "u6"}
    assert at_fault(10) == {"u6"}
    assert at_fault(11) == {"u5", "u6"}
    assert at_fault(0) == set()


@pytest.mark.parametrize(
    "reason",
    [
        {"kind": "support"},
        {"kind": "deletion"},
        {"kind": "feature"},
        {"kind": "counterfactual", "rank": 3},
        {"kind": "counterfactual", "item_id": "i1"},
        {"kind": "counterfactual", "item_id": "i1", "rank": 0},
    ],
)
def test_reasons_without_their_subject_are_caught(
    healthy: Tables, judge_in: Callable[..., QualityReport], reason: dict[str, Any]
) -> None:
    lists = healthy["recommendations"].to_dicts()
    for row in lists[:2]:
        row["reasons"] = [{"kind": "item", "share": row["score"]}, {**reason, "share": 0.0}]
    frame = pl.DataFrame(lists, schema=RECOMMENDATIONS_SCHEMA)
    report = judge_in("recommendations", {**healthy, "recommendations": frame})
    [failure] = report.critical
    assert (failure.expectation, failure.unexpected_count) == ("reasons_name_their_subject", 2)


@pytest.mark.parametrize("suite", SUITES)
def test_every_expectation_has_a_fault(suite: str) -> None:
    _, table = table_of(suite)
    names = [one["meta"]["name"] for one in read_suite(suite)["expectations"]]
    assert len(set(names)) == len(names)
    assert set(names) == {*ROW_FAULTS[table], *TABLE_FAULTS[table]} - not_asked(suite)


@pytest.mark.parametrize("kind", ["raw", "clean", "recommendations"])
def test_healthy_tables_pass_every_expectation(
    kind: str, healthy: Tables, judged: Callable[..., QualityReport]
) -> None:
    report = judged(kind, healthy)
    assert report.success
    assert not report.critical + report.warnings
    assert report.left_out == 0
    of_kind = [suite for suite in SUITES if suite.startswith(kind)]
    assert report.evaluated == sum(len(read_suite(suite)["expectations"]) for suite in of_kind)
    assert set(report.rows) == set(of_kind)


@pytest.mark.parametrize("suite", SUITES)
def test_expectations_say_what_they_want_and_what_to_do(suite: str) -> None:
    for expectation in read_suite(suite)["expectations"]:
        wanted, next_step = expectation["notes"]
        assert wanted.endswith(".")
        assert next_step.endswith(".")
        assert expectation["severity"] in ("critical", "warning")
        if expectation["type"] == QUERY:
            query = expectation["kwargs"]["unexpected_rows_query"]
            assert "{batch}" in query
            assert " ORDER BY " in query  # which rows are named must not depend on threads
            assert expectation["meta"]["columns"]


def test_suites_follow_the_schemas() -> None:
    def columns(suite: str) -> list[str]:
        return declared(suite, "columns")["kwargs"]["column_set"]

    ordered = declared("recommendations", "columns")["kwargs"]["column_list"]
    assert ordered == RECOMMENDATIONS_SCHEMA.names()
    assert columns("raw_interactions") == INTERACTIONS_SCHEMA.names()
    assert columns("clean_interactions") == INTERACTIONS_SCHEMA.names()
    bands = [band for _, band in SEGMENT_BANDS]
    assert declared("recommendations", "segment_known")["kwargs"]["value_set"] == bands
