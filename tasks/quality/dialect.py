"""A SQLAlchemy dialect for DuckDB with what Great Expectations asks of one, and no more."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import duckdb
import sqlalchemy as sa
from sqlalchemy.engine.default import DefaultDialect, DefaultExecutionContext
from sqlalchemy.engine.interfaces import DBAPIConnection, ReflectedColumn
from sqlalchemy.engine.url import URL
from sqlalchemy.pool import Pool, StaticPool

SCHEME = "metarec+duckdb"


class _Cursor:
    """A DuckDB cursor that describes its columns by name alone.

    SQLAlchemy would keep the type objects of DuckDB for the life of the process, and DuckDB
    complains on the standard error of a process that ends while they are held.
    """

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    @property
    def description(self) -> list[tuple[str, None]] | None:
        described = self._cursor.description
        return described and [(column[0], None) for column in described]


class _Context(DefaultExecutionContext):
    def create_cursor(self) -> Any:
        return _Cursor(super().create_cursor())


class DuckDBDialect(DefaultDialect):
    """Reads a named in-memory database of this process: ``metarec+duckdb:///<name>``.

    Great Expectations returns a connection to its pool before it fetches the rows. A pool that
    keeps one connection open, and cursors that DuckDB makes as connections of their own, let the
    result outlive that without a copy of it in Python.
    """

    name = "duckdb"
    driver = "duckdb"
    default_paramstyle = "qmark"
    execution_ctx_cls = _Context
    supports_statement_cache = True
    supports_sane_rowcount = False

    @classmethod
    def import_dbapi(cls) -> ModuleType:  # type: ignore[override]
        """DuckDB's own module is its DBAPI."""
        return duckdb

    @classmethod
    def get_pool_class(cls, url: URL) -> type[Pool]:  # noqa: ARG003 (SQLAlchemy's signature)
        """One connection for the life of the engine."""
        return StaticPool

    def create_connect_args(self, url: URL) -> tuple[list[str], dict[str, Any]]:  # type: ignore[override]
        """A name after ``:memory:`` is shared by all connections of the process."""
        return [f":memory:{url.database}"], {}

    def do_begin(self, dbapi_connection: Any) -> None:
        """Nothing: every statement is a transaction of its own."""

    def do_commit(self, dbapi_connection: DBAPIConnection) -> None:
        """Nothing: DuckDB refuses to commit what was not begun."""

    def do_rollback(self, dbapi_connection: DBAPIConnection) -> None:
        """Nothing, for the same reason; only reads come through here."""

    def _get_server_version_info(self, connection: Any) -> None:
        return None

    def _get_default_schema_name(self, connection: Any) -> str:
        return "main"

    def has_table(
        self, connection: Any, table_name: str, schema: str | None = None, **kw: Any
    ) -> bool:
        """Whether a table or a view has this name."""
        return bool(self.get_columns(connection, table_name, schema))

    def get_columns(  # type: ignore[override]
        self, connection: Any, table_name: str, schema: str | None = None, **kw: Any
    ) -> list[ReflectedColumn]:
        """Columns in order; types are left to DuckDB, since no expectation asks for them."""
        rows = connection.exec_driver_sql(
            "SELECT column_name FROM information_schema.columns "
            "WHERE table_name = ? ORDER BY ordinal_position",
            (table_name,),
        )
        return [
            {"name": name, "type": sa.types.NullType(), "nullable": True, "default": None}
            for (name,) in rows
        ]


def register() -> None:
    """Make the scheme known to SQLAlchemy; doing so twice is harmless."""
    sa.dialects.registry.register(SCHEME.replace("+", "."), __name__, DuckDBDialect.__name__)
