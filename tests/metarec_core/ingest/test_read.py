from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metarec_core.config import CleaningConfig, ValidationConfig
from metarec_core.errors import DatasetError, StorageError
from metarec_core.ingest.descriptor import DatasetDescriptor, load_descriptor
from metarec_core.ingest.read import fingerprint, ingest_tables
from metarec_core.schema import INTERACTIONS_SCHEMA
from metarec_core.storage import StageFacts

Ingest = Callable[..., StageFacts]
Small = Callable[..., DatasetDescriptor]

ITEMS = {
    "path": "items.csv",
    "columns": {"item_id": "id", "title": "name"},
    "null_values": ["none"],
    "features": {
        "tags": {"column": "tags", "kind": "multi", "separator": "|"},
        "year": {"column": "name", "kind": "numeric", "pattern": r"\((\d{4})\)"},
        "price": {"column": "price", "kind": "numeric"},
        "brand": {"column": "brand", "kind": "categorical"},
    },
}
RATINGS = "u,i,r,t\n1,a,3,10\n"


def table(tmp_path: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(tmp_path / "out" / f"{name}.parquet")


def test_interactions_keep_nulls_duplicates_and_values_out_of_range(
    tmp_path: Path, small: Small, ingest: Ingest
) -> None:
    facts = ingest(small(), ratings="u,i,r,t\n 1,a,3,10\n,a,9,\n2,b,,0\n2,b,,0\n")
    frame = table(tmp_path, "interactions")
    assert frame.schema == INTERACTIONS_SCHEMA
    assert frame.rows() == [
        (" 1", "a", 3.0, 10, 1),
        (None, "a", 9.0, None, 2),
        ("2", "b", None, 0, 3),
        ("2", "b", None, 0, 4),
    ]
    assert (facts.rows_in, facts.rows_out) == (4, 4)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "dataset.json",
        "interactions.parquet",
        "rejects.parquet",
    ]


def test_features_are_typed_and_sets_are_sorted(
    tmp_path: Path, small: Small, ingest: Ingest
) -> None:
    items = 'id,name,tags,price,brand\na,"Up, (2009)",b| a||b,2.5,none\nb,none,,none, x \n'
    ingest(small(items=ITEMS), ratings=RATINGS, items=items)
    frame = table(tmp_path, "items")
    assert frame.columns == ["item_id", "title", "source_row", "tags", "year", "price", "brand"]
    assert frame.rows() == [
        ("a", "Up, (2009)", 1, ["a", "b"], 2009.0, 2.5, None),
        ("b", None, 2, None, None, None, " x "),
    ]


def test_columns_that_a_dataset_lacks_are_there_all_the_same(
    tmp_path: Path, small: Small, ingest: Ingest
) -> None:
    source = {"path": "ratings.csv", "columns": {"user_id": "u", "item_id": "i"}}
    descriptor = small(
        feedback="implicit",
        values={"default_weight": 2.0},
        interactions=source,
        items={"path": "items.csv", "columns": {"item_id": "id"}},
    )
    ingest(descriptor, ratings=RATINGS, items="id\na\n")
    assert table(tmp_path, "interactions").rows() == [("1", "a", 2.0, None, 1)]
    assert table(tmp_path, "items").rows() == [("a", None, 1)]


@pytest.mark.parametrize(
    ("unit", "text", "seconds"),
    [
        ("seconds", "964982703", 964982703),
        ("seconds", "964982703.9", 964982703),
        ("milliseconds", "964982703999", 964982703),
        ("iso", "2020-01-01", 1577836800),
        ("iso", "2020-01-01T10:00:00Z", 1577872800),
        ("iso", "2020-01-01 10:00:00+02:00", 1577865600),
    ],
)
def test_times_become_seconds(
    tmp_path: Path, small: Small, ingest: Ingest, unit: str, text: str, seconds: int
) -> None:
    ingest(small(timestamp_unit=unit), ratings=f"u,i,r,t\n1,a,3,{text}\n")
    assert table(tmp_path, "interactions")["timestamp"].to_list() == [seconds]


def test_every_kind_of_unreadable_row_is_named(
    tmp_path: Path, small: Small, ingest: Ingest
) -> None:
    ratings = (
        "u,i,r,t\n1,a,3,10\n2,b\n3,c,x,10\n4,d,4,10,extra,more\n5,e,inf,now\n6,f,nan,10\n7,g,5,10\n"
    )
    facts = ingest(small(), ratings=ratings, share=1.0)
    assert table(tmp_path, "interactions").select("user_id", "source_row").rows() == [
        ("1", 1),
        ("7", 7),
    ]
    assert table(tmp_path, "rejects").rows() == [
        ("interactions", 3, None, "2,b", "a row with too few cells (4 wanted)"),
        ("interactions", 4, "r", "x", "not a finite number"),
        ("interactions", 5, None, "4,d,4,10,extra,more", "a row with too many cells (4 wanted)"),
        ("interactions", 6, "r", "inf", "not a finite number"),
        ("interactions", 6, "t", "now", "not a number of seconds since 1970"),
        ("interactions", 7, "r", "nan", "not a finite number"),
    ]
    assert facts.facts["rows"]["interactions"] == {"source": 7, "kept": 2, "rejected": 5}
    assert facts.facts["rejects"][0]["line"] == 3


def test_too_many_unreadable_rows_stop_the_run(small: Small, ingest: Ingest) -> None:
    ratings = "u,i,r,t\n" + "".join(f"{n},a,{'x' if n % 2 else 3},1\n" for n in range(10))
    with pytest.raises(DatasetError) as caught:
        ingest(small(), ratings=ratings, share=0.4, named=2)
    error = caught.value
    assert "5 of 10 rows" in error.found
    assert "line 3, column 'r': 'x' is not a finite number" in error.found
    assert error.found.count("line ") == 2
    assert "0.4" in error.wanted
    assert "max_unparsable_fraction" in error.next_step
    ingest(small(), ratings=ratings, share=0.5)


@pytest.mark.parametrize(
    ("ratings", "words"),
    [
        ("u,i,r,t\n", ["no interaction"]),
        ("", ["empty first line", "names the columns"]),
        ("u,i,r,time\n1,a,3,1\n", ["column 't'", "'u', 'i', 'r', 'time'", "columns.timestamp"]),
        ("u;i;r;t\n1;a;3;1\n", ["'u;i;r;t'", "or the delimiter"]),
        ("user,i,r,t,u,u\n1,a,3,1,2,2\n", ["it twice"]),
        ('u,i,r,t\n1,a,3,1\n2,"b,3,1\n3,c,3,1\n', ["line 3", "never closed", "quote"]),
        (b"u,i,r,t\n1,caf\xe9,3,1\n", ["unicode", "line 2"]),
        (b"u,i,caf\xe9,t\n1,a,3,1\n", ["utf-8", "encoding"]),
        ("u,i,r,t\r\n1,a,3,1\r\n2,b,3,1\n3,c,3,1\n", ["can be read as text"]),
    ],
)
def test_a_file_that_is_not_as_described(
    small: Small, ingest: Ingest, ratings: str | bytes, words: list[str]
) -> None:
    with pytest.raises(DatasetError) as caught:
        ingest(small(), ratings=ratings)
    for word in ["ratings.csv", *words]:
        assert word in str(caught.value)


def test_a_missing_column_is_told_with_a_near_one(small: Small, ingest: Ingest) -> None:
    items = "id,name,tag,price,brand\n"
    with pytest.raises(DatasetError) as caught:
        ingest(small(items=ITEMS), ratings=RATINGS, items=items)
    assert "did you mean 'tag'? correct items.features.tags.column" in caught.value.next_step


def test_a_pattern_beyond_the_engine_is_refused(small: Small, ingest: Ingest) -> None:
    users = {
        "path": "users.csv",
        "columns": {"user_id": "u"},
        "features": {"area": {"column": "z", "kind": "categorical", "pattern": "(?=a)(.)"}},
    }
    with pytest.raises(DatasetError, match="no look-ahead"):
        ingest(small(users=users), ratings=RATINGS, users="u,z\n1,abc\n")


def test_outside_names_are_quoted(tmp_path: Path, small: Small, ingest: Ingest) -> None:
    root = tmp_path / 'it\'s [1] * "odd"'
    root.mkdir()
    column = "r\"; DROP TABLE x; --'"
    source = {
        "path": "ratings.csv",
        "delimiter": ";;",
        "quote": "",
        "null_values": ["it's"],
        "columns": {"user_id": "U", "item_id": "u", "value": column},
    }
    ingest(small(interactions=source), root=root, ratings=f"U;;u;;{column}\n1;;it's;;3\n")
    assert table(tmp_path, "interactions").rows() == [("1", None, 3.0, None, 1)]


def test_utf_16(tmp_path: Path, small: Small, ingest: Ingest) -> None:
    source = small().interactions.model_dump() | {"encoding": "utf-16"}
    ingest(small(interactions=source), ratings="u,i,r,t\n1,caf\u00e9,3,1\n".encode("utf-16"))
    assert table(tmp_path, "interactions")["item_id"].to_list() == ["caf\u00e9"]


def test_blank_lines_and_quoted_lines_do_no_harm(
    tmp_path: Path, small: Small, ingest: Ingest
) -> None:
    ratings = b'\xef\xbb\xbfu,i,r,t\r\n1,"a\r\nb",3,1\r\n\r\n2,"c ""d""",4,2\r\n'
    ingest(small(), ratings=ratings)
    frame = table(tmp_path, "interactions")
    assert frame["item_id"].to_list() == ["a\r\nb", 'c "d"']
    assert frame["source_row"].to_list() == [1, 2]


def test_parquet_with_ids_as_floats_times_and_lists(
    tmp_path: Path, small: Small, ingest: Ingest
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    pl.DataFrame(
        {
            "u": [1.0, None, float("nan")],
            "i": [7, 8, 9],
            "r": [3.5, float("nan"), None],
            "t": pl.Series(["2020-01-01", None, None]).str.to_datetime(),
        }
    ).write_parquet(data / "r.parquet")
    pl.DataFrame({"id": [7], "tags": [["b", " a", "b", ""]]}).write_parquet(data / "i.parquet")
    descriptor = small(
        interactions={
            "path": "r.parquet",
            "format": "parquet",
            "columns": {"user_id": "u", "item_id": "i", "value": "r", "timestamp": "t"},
        },
        items={
            "path": "i.parquet",
            "format": "parquet",
            "columns": {"item_id": "id"},
            "features": {"tags": {"column": "tags", "kind": "multi"}},
        },
    )
    ingest(descriptor)
    assert table(tmp_path, "interactions").rows() == [
        ("1", "7", 3.5, 1577836800, 1),
        (None, "8", None, None, 2),
        (None, "9", None, None, 3),
    ]
    assert table(tmp_path, "items").rows() == [("7", None, 1, ["a", "b"])]


def test_a_text_file_that_is_said_to_be_parquet(small: Small, ingest: Ingest) -> None:
    source = {
        "path": "ratings.csv",
        "format": "parquet",
        "columns": {"user_id": "u", "item_id": "i", "value": "r"},
    }
    with pytest.raises(DatasetError, match="can be read as Parquet"):
        ingest(small(interactions=source), ratings=RATINGS)


def test_fingerprint_follows_content_and_descriptor_not_place(tmp_path: Path, small: Small) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for place in (here, there):
        place.mkdir()
        (place / "ratings.csv").write_text(RATINGS)
    before = fingerprint(small(), here)
    assert fingerprint(small(), there) == before
    assert fingerprint(small(timestamp_unit="iso"), here) != before
    (there / "ratings.csv").write_text(RATINGS + "2,a,3,10\n")
    assert fingerprint(small(), there) != before
    (there / "ratings.csv").unlink()
    with pytest.raises(DatasetError, match="FileNotFoundError"):
        fingerprint(small(), there)


def test_ml_latest_small(tmp_path: Path, shared: Path, ingest: Ingest) -> None:
    facts = ingest(load_descriptor("ml-latest-small"), root=shared / "ml-latest-small")
    assert facts.facts["rows"] == {
        "interactions": {"source": 100_836, "kept": 100_836, "rejected": 0},
        "items": {"source": 9_742, "kept": 9_742, "rejected": 0},
    }
    items = table(tmp_path, "items")
    assert items["year"].null_count() == 12
    assert items["genres"].null_count() == 34
    assert items.row(0, named=True)["year"] == 1995.0


def test_multi_character_delimiter_and_latin_1_without_header(
    tmp_path: Path, shared: Path, ingest: Ingest
) -> None:
    plain: dict[str, Any] = {"delimiter": "::", "quote": "", "header": False}
    ml_1m = DatasetDescriptor.model_validate(
        {
            "name": "ml-1m",
            "feedback": "explicit",
            "values": {"minimum": 1, "maximum": 5, "relevant_from": 4},
            "interactions": {
                "path": "ratings.parquet",
                "format": "parquet",
                "columns": {
                    "user_id": "user_id",
                    "item_id": "item_id",
                    "value": "rating",
                    "timestamp": "timestamp",
                },
            },
            "users": plain
            | {
                "path": "users.dat",
                "names": ["user", "gender", "age", "occupation", "zip"],
                "columns": {"user_id": "user"},
                "features": {
                    "gender": {"column": "gender", "kind": "categorical"},
                    "age": {"column": "age", "kind": "numeric"},
                },
            },
            "items": plain
            | {
                "path": "movies.dat",
                "encoding": "latin-1",
                "names": ["movie", "title", "genres"],
                "columns": {"item_id": "movie", "title": "title"},
                "features": {"genres": {"column": "genres", "kind": "multi"}},
            },
        }
    )
    facts = ingest(ml_1m, root=shared / "ml-1m")
    assert {name: rows["kept"] for name, rows in facts.facts["rows"].items()} == {
        "interactions": 1_000_209,
        "users": 6_040,
        "items": 3_883,
    }
    assert table(tmp_path, "users").row(0) == ("1", 1, "F", 1.0)
    items = table(tmp_path, "items")
    assert items.filter(pl.col("item_id") == "73")["title"].item() == "Misérables, Les (1995)"
    interactions = table(tmp_path, "interactions")
    assert interactions["timestamp"].null_count() == 337_147
    assert interactions["user_id"].is_in(table(tmp_path, "users")["user_id"].implode()).all()


LINES = {"good": "{n},a,3,1", "short": "{n},a", "long": "{n},a,3,1,9", "word": "{n},a,x,1"}


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(kinds=st.lists(st.sampled_from(sorted(LINES)), max_size=30))
def test_every_line_is_kept_under_its_number_or_rejected_under_it(
    tmp_path: Path, small: Small, ingest: Ingest, kinds: list[str]
) -> None:
    kinds = [*kinds, "good"]
    lines = [LINES[kind].format(n=n) for n, kind in enumerate(kinds, start=1)]
    ingest(small(), ratings="\n".join(["u,i,r,t", *lines]), share=1.0)
    kept = table(tmp_path, "interactions")
    assert kept["source_row"].to_list() == [
        n for n, kind in enumerate(kinds, start=1) if kind == "good"
    ]
    assert kept["user_id"].cast(pl.Int64).equals(kept["source_row"])
    assert table(tmp_path, "rejects")["line"].to_list() == [
        n + 1 for n, kind in enumerate(kinds, start=1) if kind != "good"
    ]


def test_too_little_memory_says_which_setting(tmp_path: Path, small: Small) -> None:
    rows = "\n".join(f"user-{n},item-{n},3,1" for n in range(300_000))
    (tmp_path / "ratings.csv").write_text(f"u,i,r,t\n{rows}\n")
    (tmp_path / "out").mkdir()
    with pytest.raises(StorageError, match=r"cleaning\.memory_limit"):
        ingest_tables(
            small(),
            tmp_path,
            tmp_path / "out",
            validation=ValidationConfig(),
            cleaning=CleaningConfig(memory_limit="2MB", threads=1),
        )
    assert list((tmp_path / "out").iterdir()) == []
