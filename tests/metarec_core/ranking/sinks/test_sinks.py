"""What every sink promises, on real files: the old rows or the new ones, whatever happens."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metarec_core.errors import ConfigError, ServiceError
from metarec_core.ranking.sinks.database import DatabaseSink
from metarec_core.ranking.sinks.duckdb_table import DuckDBSink
from metarec_core.ranking.sinks.open import open_sinks, replacing_in_all
from metarec_core.ranking.sinks.settings import SinksConfig

ROOT = Path(__file__).resolve().parents[4]
KINDS = ("duckdb", "sqlite")


def test_the_table_holds_the_contract_and_where_it_comes_from(
    table: Any, world: SimpleNamespace, tmp_path: Path
) -> None:
    frame, of = world.lists(world.monday, 10), world.stamp()
    shards = world.write_lists(tmp_path / "lists", frame)
    assert len(shards) == 3
    assert table.put(shards, of) == len(frame)
    assert world.ordered(table.rows()) == world.ordered(world.expected(frame, of))


def test_twice_is_the_same_as_once(table: Any, world: SimpleNamespace, tmp_path: Path) -> None:
    shards = world.write_lists(tmp_path / "lists", world.lists(world.monday, 6))
    table.put(shards, world.stamp())
    before = world.ordered(table.rows())
    table.put(shards, world.stamp())
    assert world.ordered(table.rows()) == before


def test_rows_that_are_gone_go_and_other_dates_stay(
    table: Any, world: SimpleNamespace, tmp_path: Path
) -> None:
    tuesday = world.lists(world.tuesday, 5)
    table.put(world.write_lists(tmp_path / "t", tuesday), world.stamp(world.tuesday))
    table.put(world.write_lists(tmp_path / "a", world.lists(world.monday, 9)), world.stamp())
    fewer, again = world.lists(world.monday, 2, k=2, score=8.0), world.stamp(run="run 2")
    table.put(world.write_lists(tmp_path / "b", fewer), again)
    wanted = world.expected(fewer, again) + world.expected(tuesday, world.stamp(world.tuesday))
    assert world.ordered(table.rows()) == world.ordered(wanted)


def test_no_lists_at_all_leave_no_rows(table: Any, world: SimpleNamespace, tmp_path: Path) -> None:
    table.put(world.write_lists(tmp_path / "a", world.lists(world.monday, 3)), world.stamp())
    assert (
        table.put(world.write_lists(tmp_path / "b", world.lists(world.monday, 0)), world.stamp())
        == 0
    )
    assert table.rows() == []


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None)
@given(
    nights=st.lists(
        st.tuples(st.booleans(), st.integers(0, 6), st.integers(1, 3), st.booleans()),
        min_size=1,
        max_size=5,
    )
)
def test_any_sequence_of_nights_leaves_the_last_one_of_each_date(
    kind: str,
    nights: list[tuple[bool, int, int, bool]],
    world: SimpleNamespace,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    place = tmp_path_factory.mktemp("nights")
    table = world.tables[kind](place)
    wanted: dict[Any, list[dict[str, Any]]] = {}
    for number, (later, n_users, k, fails) in enumerate(nights):
        day = world.tuesday if later else world.monday
        frame, of = world.lists(day, n_users, k, score=float(number)), world.stamp(day, str(number))
        shards = world.write_lists(place / str(number), frame)
        if fails:
            with pytest.raises(ZeroDivisionError), table.sink.replacing(shards, of):
                raise ZeroDivisionError
        else:
            table.put(shards, of)
            wanted[day] = world.expected(frame, of)
    rows = [row for night in wanted.values() for row in night]
    assert world.ordered(table.rows()) == world.ordered(rows)


KILLED = """
import runpy, sys, time
from pathlib import Path

root, tests, place, kind, moment = sys.argv[1:]
sys.path.insert(0, root)
world = runpy.run_path(tests)
place = Path(place)
table = world["TABLES"][kind](place)
shards = world["write_lists"](place / "new", world["lists"](world["MONDAY"], 40, score=9.0))

def here():
    print("here", flush=True)
    time.sleep(60)

class Late(type(shards[0])):
    "The last shard: whoever opens it never comes to an end."
    def __fspath__(self): here()
    def __str__(self): here()

if moment == "writing":
    shards[-1] = Late(shards[-1])
with table.sink.replacing(shards, world["stamp"](run="new")):
    here()
"""


@pytest.mark.parametrize("moment", ["writing", "written"])
def test_a_kill_leaves_the_old_rows_wholly(
    table: Any, world: SimpleNamespace, tmp_path: Path, moment: str
) -> None:
    frame, of = world.lists(world.monday, 8), world.stamp(run="old")
    table.put(world.write_lists(tmp_path / "old", frame), of)
    kind = "duckdb" if isinstance(table.sink, DuckDBSink) else "sqlite"
    words = [str(ROOT), str(Path(__file__).with_name("conftest.py")), str(tmp_path), kind, moment]
    child = subprocess.Popen([sys.executable, "-c", KILLED, *words], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"here\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert world.ordered(table.rows()) == world.ordered(world.expected(frame, of))
    new = world.lists(world.monday, 4)
    table.put(world.write_lists(tmp_path / "again", new), world.stamp())
    assert world.ordered(table.rows()) == world.ordered(world.expected(new, world.stamp()))


def test_a_table_of_other_columns_is_not_touched(
    table: Any, world: SimpleNamespace, tmp_path: Path
) -> None:
    text = "CREATE TABLE recommendations (user_id VARCHAR, stars INTEGER)"
    if isinstance(table.sink, DuckDBSink):
        with duckdb.connect(str(table.path)) as connection:
            connection.execute(text)
    else:
        with table.sink.engine.begin() as connection:
            connection.exec_driver_sql(text)
    shards = world.write_lists(tmp_path / "lists", world.lists(world.monday, 3))
    with pytest.raises(
        ConfigError, match=r"no column run_date, .*; unknown columns stars"
    ) as caught:
        table.put(shards, world.stamp())
    assert "name another table in recommend.sinks" in str(caught.value)


def test_all_sinks_are_written_before_one_is_committed(
    world: SimpleNamespace, tmp_path: Path
) -> None:
    """A sink that cannot be written leaves the others as they were, whichever comes first."""
    good = [world.tables[kind](tmp_path) for kind in KINDS]
    old, of = world.lists(world.monday, 5), world.stamp(run="old")
    for table in good:
        table.put(world.write_lists(tmp_path / "old", old), of)
    bad = DuckDBSink(tmp_path / "a file" / "lists.duckdb", "recommendations")
    (tmp_path / "a file").write_text("no directory")
    shards = world.write_lists(tmp_path / "new", world.lists(world.monday, 9))
    for sinks in ([*good, bad], [bad, *good]):
        chosen = [getattr(one, "sink", one) for one in sinks]
        with pytest.raises(ServiceError), replacing_in_all(chosen, shards, world.stamp()):
            pytest.fail("the block was entered")
        for table in good:
            assert world.ordered(table.rows()) == world.ordered(world.expected(old, of))


def test_settings_open_what_they_name(tmp_path: Path) -> None:
    assert open_sinks(SinksConfig(), tmp_path, {}) == ()
    config = SinksConfig.model_validate(
        {
            "duckdb": {"path": "sub/lists.duckdb", "table": "lists", "memory_limit": "200MB"},
            "database": {"url_variable": "SHOP_URL", "db_schema": "nightly", "batch_rows": 10},
        }
    )
    first, second = open_sinks(config, tmp_path, {"SHOP_URL": "sqlite:///x.db"})
    assert isinstance(first, DuckDBSink)
    assert (first.path, first.table) == (tmp_path / "sub" / "lists.duckdb", "lists")
    assert isinstance(second, DatabaseSink)
    assert (second.table.fullname, second.batch_rows) == ("nightly.recommendations", 10)
    # Nothing is connected to, let alone created, before there is something to write.
    assert list(tmp_path.iterdir()) == []
