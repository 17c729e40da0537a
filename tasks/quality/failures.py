"""Turns expectation results, as plain JSON, into failures a person can act on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.quality.report import Failure, Severity
from tasks.quality.suites import columns_of

BOUNDS = (("min_value", "at least"), ("max_value", "at most"))


def failures(
    suite: Mapping[str, Any], results: Sequence[Mapping[str, Any]], *, max_named_rows: int
) -> list[Failure]:
    """The failures among a suite's results, in the suite's order.

    An expectation that could not be evaluated counts as a critical failure: whether it holds is
    unknown.
    """
    order = [expectation["meta"]["name"] for expectation in suite["expectations"]]
    failed = [_failure(suite["name"], one, max_named_rows) for one in results if not one["success"]]
    return sorted(failed, key=lambda failure: order.index(failure.expectation))


def _failure(suite: str, result: Mapping[str, Any], max_named_rows: int) -> Failure:
    config, outcome = result["expectation_config"], result["result"]
    wanted, next_step = config["notes"]
    broken = _exception(result["exception_info"])
    count = _unexpected_count(outcome)
    return Failure(
        suite=suite,
        expectation=config["meta"]["name"],
        column=", ".join(columns_of(config)) or None,
        severity=Severity.CRITICAL if broken else Severity(config["severity"]),
        wanted=wanted.rstrip(".") + _bounds(config["kwargs"]),
        found=f"could not be evaluated: {broken}" if broken else _found(config, outcome, count),
        next_step=next_step,
        unexpected_count=count,
        rows=_rows(outcome)[:max_named_rows],
    )


def _unexpected_count(outcome: Mapping[str, Any]) -> int | None:
    if "unexpected_count" in outcome:
        return int(outcome["unexpected_count"])
    if "unexpected_rows" in outcome.get("details", {}):
        return int(outcome["observed_value"])
    return None


def _rows(outcome: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = outcome.get("details", {}).get("unexpected_rows")
    rows = outcome.get("partial_unexpected_index_list") if rows is None else rows
    return [dict(row) for row in rows or []]


def _found(config: Mapping[str, Any], outcome: Mapping[str, Any], count: int | None) -> str:
    kwargs = config["kwargs"]
    columns = kwargs.get("column_set") or kwargs.get("column_list")
    if columns:
        missing = sorted(set(columns) - set(outcome["observed_value"]))
        extra = sorted(set(outcome["observed_value"]) - set(columns))
        if missing:
            return f"no column {', '.join(missing)}"
        if extra:
            return f"unknown columns {', '.join(extra)}"
        return f"the columns in the order {', '.join(outcome['observed_value'])}"
    if count is not None:
        of = f" of {outcome['element_count']}" if "element_count" in outcome else ""
        return f"{count}{of} rows at fault"
    return f"{outcome.get('observed_value')}"


def _bounds(kwargs: Mapping[str, Any]) -> str:
    texts = [
        f"{words} {kwargs[name]:.10g}"
        for name, words in BOUNDS
        if isinstance(kwargs.get(name), int | float)
    ]
    return f" ({' and '.join(texts)})" if texts else ""


def _exception(info: Mapping[str, Any]) -> str:
    # One expectation has the message at the top, or one entry a metric that raised.
    entries = [info, *(entry for entry in info.values() if isinstance(entry, Mapping))]
    messages = sorted(str(one["exception_message"]) for one in entries if _raised(one))
    return messages[0].splitlines()[0] if messages else ""


def _raised(entry: Mapping[str, Any]) -> bool:
    return bool(entry.get("raised_exception")) and bool(entry.get("exception_message"))
