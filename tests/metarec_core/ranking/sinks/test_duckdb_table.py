"""A DuckDB file: nested columns, its lock, and what another name of the table needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest

from metarec_core.errors import ServiceError
from metarec_core.ranking.sinks.duckdb_table import DuckDBSink

HOLDER = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def test_a_file_that_another_process_holds_is_refused_at_once(
    world: SimpleNamespace, tmp_path: Path
) -> None:
    table = world.tables["duckdb"](tmp_path)
    old = world.lists(world.monday, 3)
    table.put(world.write_lists(tmp_path / "old", old), world.stamp())
    shards = world.write_lists(tmp_path / "new", world.lists(world.monday, 6))
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(table.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ServiceError, match=r"lock.*close whatever else has the file open"):
            table.put(shards, world.stamp())
        holder.stdin.close()
    assert world.ordered(table.rows()) == world.ordered(world.expected(old, world.stamp()))
    table.put(shards, world.stamp())
    assert len(table.rows()) == 18


def test_nested_columns_are_nested_and_other_tables_are_left_alone(
    world: SimpleNamespace, tmp_path: Path
) -> None:
    path = tmp_path / "below" / "shop.duckdb"
    path.parent.mkdir()
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE sales AS SELECT 1 AS amount")
        connection.execute("CREATE SCHEMA other; CREATE TABLE other.select_ (a INTEGER)")
    shards = world.write_lists(tmp_path / "lists", world.lists(world.monday, 3))
    with DuckDBSink(path, "select_").replacing(shards, world.stamp()):
        pass
    with duckdb.connect(str(path), read_only=True) as connection:
        found = connection.execute("SELECT reasons[1].share FROM select_ WHERE user_id = 'u''2'")
        assert found.fetchall() == [(0.5,)] * 3
        assert connection.execute("SELECT * FROM sales").fetchall() == [(1,)]
        assert connection.execute("SELECT * FROM other.select_").fetchall() == []


def test_folders_above_the_shards_are_no_columns(world: SimpleNamespace, tmp_path: Path) -> None:
    table = world.tables["duckdb"](tmp_path)
    lists = world.lists(world.monday, 3)
    shards = world.write_lists(tmp_path / "run_date=1999-01-01" / "user_id=x", lists)
    table.put(shards, world.stamp())
    assert world.ordered(table.rows()) == world.ordered(world.expected(lists, world.stamp()))


def test_a_damaged_file_is_named(world: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "lists.duckdb"
    path.write_bytes(b"this is no database" * 1000)
    shards = world.write_lists(tmp_path / "lists", world.lists(world.monday, 3))
    sink = DuckDBSink(path, "recommendations")
    with pytest.raises(ServiceError, match=r"lists\.duckdb"), sink.replacing(shards, world.stamp()):
        pytest.fail("the block was entered")
