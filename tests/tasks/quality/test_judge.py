"""Verdicts: severities, named rows, what is left out, and what cannot be judged."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from metarec_core.errors import StorageError, ValidationError
from metarec_core.home import Home
from tasks.quality import Options, QualityReport, Severity, judge

Tables = dict[str, pl.DataFrame]
Judged = Callable[..., QualityReport]


def spoilt(tables: Tables) -> Tables:
    """Eight ratings off the scale (critical) and a strange user's interaction (a warning)."""
    frame = tables["interactions"].with_columns(
        pl.when(pl.col("source_row") < 20).then(9.0).otherwise(pl.col("value")).alias("value"),
        pl.when(pl.col("source_row") == 51)
        .then(pl.lit("stranger"))
        .otherwise(pl.col("user_id"))
        .alias("user_id"),
    )
    return {**tables, "interactions": frame}


def test_rows_are_named_and_capped_and_the_report_is_the_same_each_time(
    healthy: Tables, judged: Judged
) -> None:
    capped = [
        judged(
            "raw",
            spoilt(healthy),
            options=Options(max_named_rows=3, threads=threads, data_docs=False),
        )
        for threads in (1, 2)
    ]
    assert capped[0] == capped[1]
    report = QualityReport.model_validate_json(capped[0].model_dump_json())
    assert report == capped[0]
    assert not report.success
    [critical], [warning] = report.critical, report.warnings
    assert (critical.suite, critical.column) == ("raw_interactions", "value")
    assert critical.severity is Severity.CRITICAL
    assert critical.unexpected_count == 8
    assert critical.rows == [
        {"source_row": row, "user_id": "u0", "item_id": f"i{row}", "value": 9.0} for row in range(3)
    ]
    assert warning.severity is Severity.WARNING
    assert warning.rows == [{"source_row": 51, "user_id": "stranger", "item_id": "i6"}]

    with pytest.raises(ValidationError) as caught:
        report.raise_if_critical()
    message = str(caught.value)
    assert caught.value.exit_code == 4
    for part in (
        "raw_interactions, value",
        "8 of 166 rows",
        "source_row 0 user_id u0 item_id i0 value 9.0",
        "and 5 more",
        "at least 1 and at most 5",
        "Correct the scale",
        "data_docs/index.html",
    ):
        assert part in message


def test_warnings_alone_do_not_stop_a_run(healthy: Tables, judged: Judged) -> None:
    healthy["items"] = healthy["items"].with_columns(title=pl.lit(None, pl.String))
    report = judged("raw", healthy)
    assert report.success
    assert [one.expectation for one in report.warnings] == ["title_not_null"]
    report.raise_if_critical()


def test_what_a_dataset_does_not_have_is_left_out(healthy: Tables, judged: Judged) -> None:
    report = judged("raw", {"interactions": healthy["interactions"]}, max_age_days=None)
    assert report.success
    assert set(report.rows) == {"raw_interactions"}
    # Freshness, and the references to users and to items.
    assert report.left_out == 3


def test_raw_rows_at_fault_are_tolerated_up_to_a_share(healthy: Tables, judged: Judged) -> None:
    assert judged("raw", spoilt(healthy), tolerated_fraction=0.1).success
    assert not judged("raw", spoilt(healthy), tolerated_fraction=0.01).success


def test_every_critical_failure_is_mentioned(healthy: Tables, judged: Judged) -> None:
    healthy["interactions"] = healthy["interactions"].head(0)
    report = judged("raw", healthy)
    with pytest.raises(ValidationError, match=r"also failed: .*raw_interactions\.user_count"):
        report.raise_if_critical()
    assert report.critical[0].expectation == "row_count"


def test_expectation_that_cannot_be_evaluated_is_critical(healthy: Tables, judged: Judged) -> None:
    healthy["interactions"] = healthy["interactions"].with_columns(timestamp=pl.lit("yesterday"))
    report = judged("raw", healthy)
    [failure] = [one for one in report.critical if one.expectation == "timestamp_plausible"]
    assert failure.found.startswith("could not be evaluated: ")
    assert "VARCHAR" in failure.found


def test_missing_or_damaged_table_is_a_storage_error(
    healthy: Tables, judged: Judged, tmp_path: Path
) -> None:
    with pytest.raises(StorageError, match=r"users\.parquet"):
        judged("clean", {"interactions": healthy["interactions"]})
    (tmp_path / "damaged.parquet").write_bytes(b"not a table")
    with pytest.raises(StorageError, match=r"damaged\.parquet"):
        judge(Home(tmp_path / "home"), {}, {"damaged": tmp_path / "damaged.parquet"}, {})


def test_home_that_cannot_be_written_is_a_storage_error(
    healthy: Tables, judged: Judged, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="METAREC_HOME"):
        judged("raw", healthy, home=Home(tmp_path / "file" / "home"))


def test_names_of_parameters_and_values_are_not_spliced_into_sql(
    healthy: Tables, tmp_path: Path
) -> None:
    path = tmp_path / "a'b[1].parquet"
    healthy["users"].write_parquet(path)
    report = judge(
        Home(tmp_path / "home"),
        {"raw_users": "users"},
        {"users": path},
        {"mostly": 1.0, 'odd"name': "'; DROP VIEW users; --"},
        options=Options(data_docs=False),
    )
    assert report.success
    assert report.rows == {"raw_users": 40}


def test_import_is_quick_and_a_judgement_is_silent_and_stays_in_its_home(
    healthy: Tables, tmp_path: Path
) -> None:
    healthy["users"].write_parquet(tmp_path / "users.parquet")
    script = (
        "import sys; from pathlib import Path\n"
        "from metarec_core.home import Home; from tasks.quality import judge\n"
        "assert 'great_expectations' not in sys.modules\n"
        "judge(Home(Path('home')), {'raw_users': 'users'}, {'users': Path('users.parquet')},"
        " {'mostly': 1.0})\n"
    )
    user = tmp_path / "user"
    user.mkdir()
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(user), "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert {path.name for path in tmp_path.iterdir()} == {"home", "user", "users.parquet"}
    assert list(user.iterdir()) == []
    assert {path.name for path in (tmp_path / "home").iterdir()} == {
        ".data_docs.lock",
        "data_docs",
    }
