"""Settings of the databases that lists are copied to."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from metarec_core.ranking.memory import MEMORY_PATTERN
from metarec_core.section import Section

TableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]
"""A plain name: letters, digits and underscores."""

EnvironmentVariable = Annotated[str, StringConstraints(pattern=r"^[A-Z_][A-Z0-9_]{0,99}$")]


class DuckDBSinkConfig(Section):
    """A table in a DuckDB file."""

    path: str = Field("lists.duckdb", min_length=1, max_length=4096)
    """The file, relative to METAREC_HOME; it is created if need be. While the night writes it no
    other process may have it open: DuckDB locks a file as a whole."""

    table: TableName = "recommendations"
    """Table that holds the lists of all run dates."""

    memory_limit: str = Field("1GB", pattern=MEMORY_PATTERN)
    """Memory that DuckDB may use before it spills to disk."""


class DatabaseSinkConfig(Section):
    """A table in any database that SQLAlchemy has a dialect for."""

    url_variable: EnvironmentVariable = "METAREC_LISTS_URL"
    """Environment variable that holds the database's URL, such as
    ``postgresql+psycopg://user:password@host/database``, a password's @ written as %40. Never the
    URL itself: settings are shown and logged. The driver has to be installed where the night runs,
    and no asynchronous one."""

    table: TableName = "recommendations"
    """Table that holds the lists of all run dates; it is created if need be."""

    db_schema: TableName | None = None
    """Schema of the table; empty: the connection's own."""

    batch_rows: int = Field(2000, ge=1, le=100_000)
    """Rows sent at once."""


class SinksConfig(Section):
    """Databases that lists are copied to in one transaction before they are published."""

    duckdb: DuckDBSinkConfig | None = None
    """A table in a DuckDB file; empty: none."""

    database: DatabaseSinkConfig | None = None
    """A table in another database; empty: none."""
