"""Reads the suites in ``expectations/`` and leaves out what cannot be asked of a table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from metarec_core.errors import ConfigError
from metarec_core.storage import hash_file, hash_json

EXPECTATIONS = Path(__file__).resolve().parents[2] / "expectations"
QUERY = "unexpected_rows_expectation"

Parameters = Mapping[str, float | str | None]


def read_suite(name: str) -> dict[str, Any]:
    """A suite as plain JSON.

    Each expectation carries ``meta.name`` (unique in the suite), ``notes`` (what holds in good
    data; what to do if it does not) and, if it is a query, ``meta.columns`` and ``meta.tables``
    (other tables it reads).

    Raises:
        ConfigError: If the file is missing or is no suite.
    """
    path = EXPECTATIONS / f"{name}.json"
    try:
        suite: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for expectation in suite["expectations"]:
            wanted, _ = expectation["notes"]
            if expectation["type"] == QUERY or "mostly" in expectation["kwargs"]:
                # Data Docs would show the SQL, or the unfilled template of a share.
                expectation["description"] = wanted
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"expectation suite {path.name}",
            found=f"{type(error).__name__}: {error}",
            wanted="a JSON suite whose expectations each have a type, kwargs and two notes",
            next_step=f"restore expectations/{path.name}",
        ) from error
    return suite


def fingerprint() -> str:
    """Hash of the suites and of the code that judges by them, neither of which is in the core.

    A stage that judges has it in its key: what was judged by other rules is judged again.
    """
    judges = Path(__file__).parent
    files = sorted((*judges.glob("*.py"), *EXPECTATIONS.glob("*.json")))
    return hash_json({path.name: hash_file(path) for path in files})


def columns_of(expectation: Mapping[str, Any]) -> list[str]:
    """Columns an expectation reads; empty if it speaks of the table as a whole."""
    kwargs = expectation["kwargs"]
    if "column" in kwargs:
        return [kwargs["column"]]
    return list(expectation["meta"].get("columns", []))


def applicable(
    suite: Mapping[str, Any], *, columns: Set[str], tables: Set[str], parameters: Parameters
) -> tuple[dict[str, Any], int]:
    """The part of a suite that can be judged, and the number of expectations left out.

    An expectation is left out if a column it reads is absent (the suite's ``columns``
    expectation reports that), if it compares with a table that the dataset does not have, or if
    a parameter is not given (a limit that nobody set).
    """

    def can_be_asked(expectation: Mapping[str, Any]) -> bool:
        return (
            columns >= set(columns_of(expectation))
            and tables >= set(expectation["meta"].get("tables", []))
            and all(parameters.get(name) is not None for name in _parameter_names(expectation))
        )

    asked = [one for one in suite["expectations"] if can_be_asked(one)]
    return {**suite, "expectations": asked}, len(suite["expectations"]) - len(asked)


def _parameter_names(expectation: Mapping[str, Any]) -> Iterator[str]:
    for value in expectation["kwargs"].values():
        if isinstance(value, dict) and "$PARAMETER" in value:
            yield value["$PARAMETER"]
