from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from metarec_core.errors import ConfigError
from metarec_core.ranking.rules.table import RULES_SCHEMA, check_table, read_table

HEADER = "rule,item_id,user_id,segment,from,until,position\n"


@pytest.fixture
def written(tmp_path: Path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "rules.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_a_csv_is_read_with_its_row_numbers(written):
    table, findings = read_table(
        written(
            "\ufeffitem_id,rule,until,from,position,segment\n"
            " 7 ,pin,2026-02-01,2026-01-01,2,\n"
            "\n"
            '"a, b", deny ,,,,0\n'
        )
    )
    assert findings == []
    assert table.schema == RULES_SCHEMA
    assert table.rows() == [
        (1, "pin", "7", None, None, date(2026, 1, 1), date(2026, 2, 1), 2),
        (3, "deny", "a, b", None, "0", None, None, None),
    ]


def test_a_parquet_file_may_be_typed(tmp_path):
    path = tmp_path / "rules.parquet"
    pl.DataFrame(
        {
            "rule": ["pin", "allow"],
            "item_id": [7.0, 8.0],
            "user_id": [1, None],
            "from": [datetime(2026, 1, 1, tzinfo=UTC), None],
            "until": [date(2026, 2, 1), None],
            "position": [2.0, None],
        }
    ).write_parquet(path)
    table, _ = read_table(path)
    assert table.rows() == [
        (1, "pin", "7", "1", None, date(2026, 1, 1), date(2026, 2, 1), 2),
        (2, "allow", "8", None, None, None, None, None),
    ]


@pytest.mark.parametrize(
    ("row", "place", "said"),
    [
        ("denny,a,,,,,", "row 2, column rule: found 'denny'", "did you mean 'deny'?"),
        (",a,,,,,", "row 2, column rule: found nothing", "one of available, allow, deny, pin"),
        ("deny,,u,,,,", "row 2, column item_id: found nothing", "the id of an item"),
        ("deny,a,,5-8,,,", "column segment: found '5-8'", "0, 1-4, 5-9, 10-19, 20-49, 50+"),
        ("deny,a,u,0,,,", "column segment", "not both"),
        ("available,a,u,,,,", "column rule", "use allow or deny"),
        ("available,a,,0,,,", "column rule", "use allow or deny"),
        ("pin,a,,,,,", "column position: found nothing", "the rank at which a pin stands"),
        ("deny,a,,,,,1", "column position: found '1'", "only pins have a rank"),
        ("pin,a,,,,,0", "column position: found '0'", "a whole number from 1"),
        ("pin,a,,,,,1.5", "column position: found '1.5'", "a whole number from 1"),
        ("pin,a,,,,,first", "column position: found 'first'", "a whole number from 1"),
        ("deny,a,,,2026-02-30,,", "column from: found '2026-02-30'", "such as 2026-01-31"),
        ("deny,a,,,,31.01.2026,", "column until: found '31.01.2026'", "such as 2026-01-31"),
        ("deny,a,,,2026-01-02,2026-01-02,", "column until: found '2026-01-02'", "after 'from'"),
        ("deny,a,,,2026-01-02,2025-01-02,", "column until: found '2025-01-02'", "after 'from'"),
    ],
)
def test_a_wrong_cell_is_named_with_row_and_column(written, row, place, said):
    path = written(f"{HEADER}deny,fine,,,,,\n{row}\n")
    with pytest.raises(ConfigError) as caught:
        read_table(path)
    assert f"rules table {path}, row 2" in str(caught.value)
    assert place in str(caught.value)
    assert said in str(caught.value)


def test_of_many_wrong_rows_the_first_are_named(written):
    path = written(HEADER + "nix,a,,,,,\n" * 9)
    with pytest.raises(ConfigError, match="rows 1, 2, 3, 4, 5 and 4 more, column rule"):
        read_table(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "NoDataError"),
        ("rule\ndeny\n", "no column 'item_id'"),
        ("rule;item_id\ndeny;a\n", "unknown columns 'rule;item_id'"),
        ("rule,item_id,untill\ndeny,a,\n", "did you mean 'until'?"),
        ("rule,item_id,rule\ndeny,a,deny\n", "unknown columns 'rule_duplicated_0'"),
        ("rule,item_id\ndeny,a,b\n", "found more fields"),
        (b"rule,item_id\ndeny,\xff\n", "utf-8"),
    ],
)
def test_a_file_that_is_no_rules_table_is_refused(written, text, said):
    path = written(text)
    with pytest.raises(ConfigError, match="rules table") as caught:
        read_table(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    for name in ("none.csv", "none.parquet"):
        with pytest.raises(ConfigError, match=f"{name}: found .*wanted a readable CSV"):
            read_table(tmp_path / name)


def test_a_parquet_file_that_is_none_is_refused(tmp_path):
    path = tmp_path / "rules.parquet"
    path.write_text(HEADER)
    with pytest.raises(ConfigError, match=r"rules\.parquet: found ComputeError"):
        read_table(path)


def test_a_time_within_a_day_and_a_list_in_a_cell_are_refused():
    rows = pl.DataFrame(
        {"rule": ["deny"], "item_id": ["a"], "from": [datetime(2026, 1, 1, 12, tzinfo=UTC)]}
    )
    with pytest.raises(ConfigError, match="column from: found '2026-01-01 12:00:00"):
        check_table(rows, "rules table t")
    rows = pl.DataFrame({"rule": ["deny"], "item_id": [["a", "b"]]})
    with pytest.raises(ConfigError, match="column item_id: found cells of type List"):
        check_table(rows, "rules table t")


def test_repeated_rows_count_once_and_are_told(written):
    table, findings = read_table(written(f"{HEADER}deny,a,,,,,\npin,b,,,,,1\ndeny,a,,,,,\n"))
    assert table["row"].to_list() == [1, 2]
    assert [(f.kind, f.count) for f in findings] == [("duplicated_rows", 1)]
    assert "repeats earlier rows word for word in row 3" in findings[0].message


def test_an_empty_table_is_told(written):
    table, findings = read_table(written(HEADER))
    assert table.schema == RULES_SCHEMA
    assert [f.kind for f in findings] == ["empty_table"]
    assert findings[0].message.endswith("rules.csv has no rows")
