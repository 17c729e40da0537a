"""Databases behind a URL: what goes wrong in the middle, and what stays secret."""

from __future__ import annotations

import sqlite3
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, quote_plus

import polars as pl
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import event
from sqlalchemy.dialects import mysql, oracle, postgresql
from sqlalchemy.schema import CreateTable

from metarec_core.errors import ConfigError, MetarecError, ServiceError
from metarec_core.ranking.sinks.base import SINK_COLUMNS
from metarec_core.ranking.sinks.database import DatabaseSink
from metarec_core.ranking.sinks.secrets import redacted, url_from
from metarec_core.ranking.sinks.settings import DatabaseSinkConfig

SECRET = "p%/ss:w@rd hunter2"


@pytest.fixture
def filled(world: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    """A table with Monday's lists, and shards of other ones."""
    table = world.tables["sqlite"](tmp_path)
    old = world.lists(world.monday, 6)
    table.put(world.write_lists(tmp_path / "old", old), world.stamp(run="old"))
    new = world.lists(world.monday, 8, score=5.0)
    return SimpleNamespace(
        table=table,
        old=world.ordered(world.expected(old, world.stamp(run="old"))),
        new=world.ordered(world.expected(new, world.stamp())),
        shards=world.write_lists(tmp_path / "new", new),
        stamp=world.stamp(),
        rows=lambda: world.ordered(table.rows()),
        put=lambda: table.put(world.write_lists(tmp_path / "new", new), world.stamp()),
    )


def test_a_locked_database_is_told_of_and_left_as_it_was(filled: SimpleNamespace) -> None:
    holder = sqlite3.connect(filled.table.path)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(ServiceError, match="database is locked") as caught:
        filled.put()
    assert "run again" in caught.value.next_step
    holder.rollback()
    holder.close()
    assert filled.rows() == filled.old
    filled.put()
    assert filled.rows() == filled.new


def test_a_row_that_is_refused_in_the_middle_takes_all_others_along(
    filled: SimpleNamespace,
) -> None:
    with sqlite3.connect(filled.table.path) as connection:
        connection.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON recommendations WHEN new.user_id LIKE '%5' "
            "BEGIN SELECT RAISE(ABORT, 'disk quota exceeded'); END"
        )
    with pytest.raises(ServiceError, match="IntegrityError: disk quota exceeded"):
        filled.put()
    assert filled.rows() == filled.old


@pytest.mark.parametrize("lost_at", range(1, 8))
def test_a_connection_that_is_lost_at_any_statement_leaves_the_old_rows(
    filled: SimpleNamespace, lost_at: int
) -> None:
    """Two looks at the table, the removal of old rows, then batches of five."""
    seen = []

    @event.listens_for(filled.table.sink.engine, "before_cursor_execute")
    def lose(connection: Any, cursor: Any, statement: str, *_: object) -> None:
        seen.append(statement.split()[0])
        if len(seen) == lost_at:
            connection.connection.dbapi_connection.close()

    with pytest.raises(ServiceError, match="closed database"):
        filled.put()
    assert len(seen) == lost_at
    event.remove(filled.table.sink.engine, "before_cursor_execute", lose)
    assert filled.rows() == filled.old
    filled.put()
    assert filled.rows() == filled.new


def test_a_commit_that_fails_is_told_of(filled: SimpleNamespace) -> None:
    @event.listens_for(filled.table.sink.engine, "commit")
    def fail(connection: Any) -> None:
        # The first commit is that of the look at the table.
        if connection.get_transaction() is not None and connection.info.setdefault("seen", 0):
            raise sa.exc.OperationalError("COMMIT", None, sqlite3.OperationalError("server gone"))
        connection.info["seen"] = 1

    with pytest.raises(ServiceError, match="server gone"):
        filled.put()
    assert filled.rows() == filled.old


def test_batches_bound_what_is_sent_at_once(filled: SimpleNamespace) -> None:
    sizes = []

    @event.listens_for(filled.table.sink.engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, rows: Any, *_: object) -> None:
        if statement.startswith("INSERT"):
            sizes.append(len(rows))

    filled.put()
    assert sum(sizes) == 24
    assert max(sizes) == 5  # as the table was told


def test_people_and_titles_stay_out_of_errors(filled: SimpleNamespace) -> None:
    with sqlite3.connect(filled.table.path) as connection:
        connection.execute("DELETE FROM recommendations")
        connection.execute("CREATE UNIQUE INDEX one ON recommendations (segment)")
    with pytest.raises(ServiceError) as caught:
        filled.put()
    said = "".join(traceback.format_exception(caught.value))
    assert "UNIQUE constraint failed" in said
    assert "DROP TABLE" not in said
    assert "INSERT INTO" not in said


@pytest.mark.parametrize("dialect", [postgresql, mysql, oracle], ids=lambda one: one.__name__)
def test_the_table_can_be_created_in_other_dialects(dialect: Any) -> None:
    sink = DatabaseSink(sa.make_url("sqlite://"), "recommendations", db_schema="shop")
    text = str(CreateTable(sink.table).compile(dialect=dialect.dialect()))
    assert "shop.recommendations" in text
    assert "PRIMARY KEY (run_date, user_id, " in text
    assert all(name in text for name in SINK_COLUMNS)


def test_an_address_is_read_from_the_environment_alone() -> None:
    url = url_from({"SHOP": f"postgresql://me:{quote(SECRET, safe='')}@host/db "}, "SHOP")
    assert url.password == SECRET
    for text in ("", "  ", f"me:{SECRET}"):
        with pytest.raises(ConfigError, match="environment variable SHOP") as caught:
            url_from({"SHOP": text}, "SHOP")
        assert SECRET not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(ValidationError):
        DatabaseSinkConfig(url_variable="postgresql://me:secret@host/db")
    for name in ("a b", 'x"; DROP TABLE y', "1st", "", "ü", "a" * 64):
        with pytest.raises(ValidationError):
            DatabaseSinkConfig(table=name)


printable = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters="*"),
    min_size=4,
    max_size=20,
)


@given(password=printable, option=printable, before=st.text(max_size=20), name=st.text(max_size=5))
def test_no_form_of_a_secret_is_left_in_a_text(
    password: str, option: str, before: str, name: str
) -> None:
    url = sa.URL.create("x", username=name, password=password, query={"key": option})
    forms = [
        form
        for secret in (password, option)
        for form in (secret, quote(secret, safe=""), quote_plus(secret))
    ]
    text = redacted(f"{before} {' | '.join(forms)} {url.render_as_string(False)}", url)
    for form in forms:
        assert form not in text


def test_connection_strings_are_hidden_part_by_part() -> None:
    url = sa.make_url("mssql://?odbc_connect=DRIVER%3DODBC%3BUID%3Dme%3BPWD%3DHunter2secret")
    assert "Hunter2secret" not in redacted("login failed, PWD=Hunter2secret;", url)
    assert redacted("a plain\n text", url) == "a plain text"


def said_by(error: MetarecError) -> str:
    assert error.__cause__ is None
    assert error.__context__ is None
    return "".join(traceback.format_exception(error)) + repr(error)


def test_secrets_stay_out_of_what_a_failing_connection_says(
    world: SimpleNamespace, tmp_path: Path
) -> None:
    url = sa.URL.create("sqlite", database=str(tmp_path / "x.db"), query={"cache": SECRET})
    sink = DatabaseSink(url, "recommendations")

    @event.listens_for(sink.engine, "do_connect")
    def refuse(*_: object) -> None:
        raise sqlite3.OperationalError(f"user me, password {SECRET} ({quote(SECRET)}): refused")

    shards = world.write_lists(tmp_path / "lists", world.lists(world.monday, 2))
    with (
        pytest.raises(ServiceError, match="refused") as caught,
        sink.replacing(shards, world.stamp()),
    ):
        pytest.fail("the block was entered")
    said = said_by(caught.value)
    assert SECRET not in said
    assert quote(SECRET) not in said


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("sqlite://me:{}@host/x.db", "Invalid SQLite URL"),
        ("firebird://me:{}@host/db", "firebird"),
        ("postgresql+pg8000://me:{}@host/db", "pg8000"),
    ],
)
def test_secrets_stay_out_of_what_an_impossible_address_says(address: str, word: str) -> None:
    url = sa.make_url(address.format(quote(SECRET, safe="")))
    with pytest.raises(ConfigError, match=word) as caught:
        DatabaseSink(url, "recommendations")
    said = said_by(caught.value)
    assert SECRET not in said
    assert quote(SECRET, safe="") not in said


def test_columns_are_typed(filled: SimpleNamespace) -> None:
    with sqlite3.connect(filled.table.path) as connection:
        kinds = {row[1]: row[2] for row in connection.execute("PRAGMA table_info(recommendations)")}
    assert kinds["run_date"] == "DATE"
    assert kinds["rank"] == kinds["support_size"] == "INTEGER"
    assert kinds["user_id"] == "VARCHAR(255)"
    assert {kinds[name] for name in ("score", "rating", "sd", "p_relevant")} == {"DOUBLE"}
    assert {kinds[name] for name in ("reasons", "rule_flags", "title")} == {"TEXT"}
    assert pl.DataFrame(filled.table.rows())["score"].dtype == pl.Float64
