"""Databases behind a URL: what goes wrong in the middle, and what stays secret."""

from __future__ import annotations

import sqlite3
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, quote_plus, unquote

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


@pytest.mark.parametrize(
    "address",
    [
        # Read as a password and a host, a path, an option or a port that begins with its rest.
        "postgresql+psycopg://bob:{0}@{1}@db.example/lists",
        "postgresql+psycopg://bob:{0}@{1}@db.example/lists?sslmode=require",
        "postgresql+psycopg://bob:{0}@x/{1}@db.example/lists",
        "postgresql+psycopg://bob:{0}@/{1}@db.example/lists",
        "postgresql+psycopg://bob:{0}@x?y={1}@db.example/lists",
        "postgresql+psycopg://bob:{0}@x:{1}@db.example/lists",
        "postgresql+psycopg://bob:{0}@[{1}]@db.example/lists",
        "postgresql+psycopg://bob:{0}#{1}@@db.example/lists",
        "postgresql+psycopg://bob@corp:{0}@{1}@db.example/lists",
        "postgresql+psycopg://bob/smith:{0}{1}@db.example/lists",
        "postgresql+psycopg:///bob:{0}{1}@db.example/lists",
        "postgresql+psycopg://bob:{0}{1}",
        # An option, read as credentials of a host that is its rest.
        "postgresql+psycopg://db.example?user=bob&password={0}@{1}",
        "postgresql+psycopg://db.example:5432/lists?password={0}@{1}",
        "postgresql+psycopg://bob@db.example:5432/lists?password={0}@{1}",
        "mssql+pyodbc://?odbc_connect=UID%3Dbob%3BPWD%3D{0}@{1}",
    ],
)
def test_an_address_of_which_a_secret_may_be_misread_is_none(address: str) -> None:
    # Made here: a traceback repeats the line that is at fault.
    environment = {"SHOP": address.format("hunter2", "w0rd")}
    with pytest.raises(ConfigError, match=r"no database URL.*percent-encoded") as caught:
        url_from(environment, "SHOP")
    said = said_by(caught.value)
    for part in ("hunter2", "w0rd", "bob", "db.example"):
        assert part not in said


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12))
def test_a_password_is_read_whole_or_not_at_all(password: str) -> None:
    """As somebody writes it who does not know of percent-encoding."""
    try:
        url = url_from({"SHOP": f"postgresql://bob:{password}@db.example/lists"}, "SHOP")
    except ConfigError:
        assert set(password) & set("@?")
    else:
        assert url.password == unquote(password)
        assert (url.host, url.database) == ("db.example", "lists")


@pytest.mark.parametrize(
    ("address", "database"),
    [
        ("sqlite:////srv/shop@home/lists.db", "/srv/shop@home/lists.db"),
        ("sqlite:///C:/shop@home/lists.db", "C:/shop@home/lists.db"),
        ("sqlite://", None),
        ("postgresql://bob@corp:a%40b/c#d:e@db.example/lists", "lists"),
        ("postgresql://bob@db.example/lists", "lists"),
        ("postgresql://bob:pw@db.example/lists?user=bob%40corp", "lists"),
        ("postgresql://db.example/lists?user=bob@corp", "lists"),
    ],
)
def test_an_at_sign_that_cannot_be_misread_is_fine(address: str, database: str | None) -> None:
    assert url_from({"SHOP": address}, "SHOP").database == database


def test_connection_strings_are_hidden_part_by_part() -> None:
    url = sa.make_url("mssql://?odbc_connect=DRIVER%3DODBC%3BUID%3Dme%3BPWD%3DHunter2secret")
    assert "Hunter2secret" not in redacted("login failed, PWD=Hunter2secret;", url)
    assert redacted("a plain\n text", url) == "a plain text"
    braced = sa.URL.create("mssql", query={"odbc_connect": "UID=me;PWD={a;b};Encrypt=no"})
    assert redacted("login failed for a;b, encrypt no", braced) == (
        "login failed for ***, encrypt no"
    )


@pytest.mark.parametrize("secret", ["Hunter2", "abc", "7"])
@pytest.mark.parametrize("option", ["password", "sslpassword", "passwd", "api_key", "token"])
def test_options_that_are_secrets_are_hidden_however_short(secret: str, option: str) -> None:
    url = url_from({"SHOP": f"postgresql://bob@host/db?timeout=5&{option}={secret}"}, "SHOP")
    said = redacted(f"{option}={secret}&x refused: '{secret}' after 5 seconds", url)
    assert said == f"{option}=***&x refused: '***' after 5 seconds"


def test_every_way_to_write_a_password_is_hidden() -> None:
    url = sa.URL.create("x", username="me", password="pä+/s  s@w'rd")
    texts = [
        "pä+/s  s@w'rd",
        "pä+/s s@w'rd",
        "pä+/s\n s@w'rd",
        "pä+/s++s@w'rd",
        "pä+/s  s@w\\'rd",
        "pä+/s  s%40w'rd",
        "p%c3%a4%2b%2fs%20%20s%40w%27rd",
        "p%C3%A4%2B%2Fs++s%40w%27rd",
        url.render_as_string(hide_password=False)[7:-1],
    ]
    for text in texts:
        assert redacted(f"at {text}!", url) == "at ***!"


short = st.text(
    st.characters(min_codepoint=33, max_codepoint=0xFF, exclude_characters="*\\'\"%"),
    min_size=1,
    max_size=3,
).filter(lambda text: len(text.split()) == 1 and text == text.strip())


@given(short)
def test_a_short_password_is_hidden_where_it_stands_by_itself(password: str) -> None:
    url = sa.URL.create("x", username="me", password=password)
    for form in (password, quote(password, safe="")):
        for before, after in (("", ""), (" ", " "), ("<", ">"), ("%3A", "%40")):
            # Where the password is of such signs itself, they go as well.
            hidden = redacted(f"{before}{form}{after}", url)
            assert "***" in hidden
            assert password not in hidden.replace(before.strip(), "").replace(after.strip(), "")


def test_a_short_password_leaves_words_as_they_are() -> None:
    url = sa.make_url("postgresql+psycopg2://u:p@host/db")
    text = "No module named 'psycopg2', p, https://host/?p=p"
    assert redacted(text, url) == "No module named 'psycopg2', ***, https://host/?***=***"


def test_bytes_that_are_no_text_do_not_break_an_error() -> None:
    url = sa.URL.create("x", password="abc\udcff")
    assert redacted("refused: abc\udcff", url) == "refused: ***"


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


def test_an_option_of_the_wrong_kind_is_a_wrong_setting() -> None:
    url = url_from({"SHOP": f"sqlite:///x.db?timeout={quote_plus(SECRET)}"}, "SHOP")
    with pytest.raises(ConfigError, match=r"could not convert.*options that it takes") as caught:
        DatabaseSink(url, "recommendations")
    said = said_by(caught.value)
    assert SECRET not in said
    assert "hunter2" not in said


def test_any_error_of_a_dialect_about_an_address_is_a_wrong_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for kind in (TypeError, ValueError):

        def refuse(*_: object, error: type[Exception] = kind, **__: object) -> None:
            raise error

        monkeypatch.setattr(sa, "create_engine", refuse)
        with pytest.raises(ConfigError, match=kind.__name__):
            DatabaseSink(sa.make_url("sqlite://"), "recommendations")


@pytest.mark.parametrize(
    ("address", "driver"),
    [
        ("sqlite+aiosqlite:///x.db", "aiosqlite"),
        ("postgresql+asyncpg://me:{}@host/db", "asyncpg"),
    ],
)
def test_an_asynchronous_driver_is_refused_before_any_work(address: str, driver: str) -> None:
    pytest.importorskip(driver)
    url = sa.make_url(address.format(quote(SECRET, safe="")))
    with pytest.raises(
        ConfigError, match=f"asynchronous driver {driver}; wanted a synch"
    ) as caught:
        DatabaseSink(url, "recommendations")
    assert SECRET not in said_by(caught.value)


def test_columns_are_typed(filled: SimpleNamespace) -> None:
    with sqlite3.connect(filled.table.path) as connection:
        kinds = {row[1]: row[2] for row in connection.execute("PRAGMA table_info(recommendations)")}
    assert kinds["run_date"] == "DATE"
    assert kinds["rank"] == kinds["support_size"] == "INTEGER"
    assert kinds["user_id"] == "VARCHAR(255)"
    assert {kinds[name] for name in ("score", "rating", "sd", "p_relevant")} == {"DOUBLE"}
    assert {kinds[name] for name in ("reasons", "rule_flags", "title")} == {"TEXT"}
    assert pl.DataFrame(filled.table.rows())["score"].dtype == pl.Float64
