"""DuckDB in memory, within stated bounds, and outside text made safe for SQL."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from metarec_core.config import CleaningConfig
from metarec_core.errors import StorageError

BLANKS = " \t\r\n\v\f\u00a0\u2007\u202f\u3000\ufeff"
"""Characters that are trimmed from cells and make a cell blank when there is nothing else."""


@contextmanager
def connect(config: CleaningConfig, out: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory database that spills to a scratch directory and forgets everything at the end.

    Args:
        config: Memory and threads.
        out: An unpublished directory; what is spilled lies in it for the time being, so that a
            killed process leaves nothing elsewhere.

    Raises:
        StorageError: If memory and the room to spill do not suffice, or a file cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix=".spill-", dir=out) as scratch:
        connection = duckdb.connect(
            config={
                "memory_limit": config.memory_limit,
                "threads": config.threads,
                "temp_directory": scratch,
                # Nothing is ever downloaded or loaded from outside.
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            }
        )
        try:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            raise StorageError(
                f"DuckDB within {config.memory_limit}, spilling to {out}",
                found=" ".join(str(error).split())[:300],
                wanted="enough memory and disk for the tables",
                next_step="raise cleaning.memory_limit, or free disk space",
            ) from error
        finally:
            connection.close()


def identifier(name: str) -> str:
    """A column or table name, quoted.

    >>> identifier('a"b')
    '"a""b"'
    """
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string constant, quoted.

    >>> literal("Children's")
    "'Children''s'"
    """
    return "'" + text.replace("'", "''") + "'"


def file_pattern(path: Path) -> str:
    """A path whose ``*``, ``?`` and ``[`` DuckDB takes literally.

    >>> file_pattern(Path("a[1]*.csv"))
    'a[[]1][*].csv'
    """
    return "".join(f"[{char}]" if char in "*?[" else char for char in str(path))


def trimmed(text: str) -> str:
    """SQL of a text without the :data:`BLANKS` around it.

    Args:
        text: SQL of the text; it is repeated, so it should be a column.
    """
    # Most cells begin and end with a visible ASCII character, and to see that costs a third of
    # trimming against a set of characters.
    first, last = f"ascii({text})", f"ascii(right({text}, 1))"
    return (
        f"(CASE WHEN {first} BETWEEN 33 AND 126 AND {last} BETWEEN 33 AND 126 THEN {text} "
        f"ELSE trim({text}, {literal(BLANKS)}) END)"
    )
