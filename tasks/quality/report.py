"""What a judgement found: failures by severity, with the rows at fault."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from metarec_core.errors import ValidationError

DOCS = Path("data_docs") / "index.html"
"""Front page of Data Docs, relative to the home."""

NAMED_IN_ERROR = 5
"""Offending rows an error message names; the report and Data Docs name more."""


class Severity(StrEnum):
    """Whether a failed expectation stops the run or is carried into its summary."""

    CRITICAL = "critical"
    WARNING = "warning"


class Failure(BaseModel):
    """One expectation that does not hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    suite: str
    expectation: str
    """Name of the expectation, unique within its suite."""
    column: str | None
    """Column or comma-separated columns it speaks of; null for the table as a whole."""
    severity: Severity
    wanted: str
    """What holds in good data."""
    found: str
    """What was found instead."""
    next_step: str
    unexpected_count: int | None
    """Offending rows, exactly; null where rows are not what is counted."""
    rows: list[dict[str, Any]]
    """Ids of the first offending rows, capped."""

    @property
    def message(self) -> str:
        """One line: where, what was found, what was wanted, some offending rows."""
        named = f" ({self.rows_text(NAMED_IN_ERROR)})" if self.rows else ""
        return f"{self.subject}: {self.found}{named}; wanted: {self.wanted}"

    @property
    def subject(self) -> str:
        """Suite, and column where there is one."""
        return f"{self.suite}, {self.column}" if self.column else self.suite

    def rows_text(self, limit: int) -> str:
        """The first ``limit`` offending rows as text, such as ``source_row 3 user_id 7``."""
        shown = [
            " ".join(f"{name} {value}" for name, value in row.items()) for row in self.rows[:limit]
        ]
        total = self.unexpected_count or len(self.rows)
        more = [f"and {total - len(shown)} more"] if total > len(shown) else []
        return "; ".join(shown + more)


class QualityReport(BaseModel):
    """Verdict over one or several tables; the same data and parameters give an equal one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    success: bool
    """True if no critical expectation failed; warnings may have."""
    critical: list[Failure]
    warnings: list[Failure]
    evaluated: int
    """Expectations that were judged."""
    left_out: int
    """Expectations that were not: their column, table or parameter does not exist here."""
    rows: dict[str, int]
    """Rows of each judged table, by suite."""
    docs: Path
    """Front page of Data Docs, relative to the home (a report is data and names no machine)."""

    def raise_if_critical(self) -> None:
        """Stop the run if a critical expectation failed.

        Raises:
            ValidationError: Naming the first failure's suite, column, count and rows, and the
                other critical failures.
        """
        if self.success:
            return
        first, others = self.critical[0], self.critical[1:]
        named = f" ({first.rows_text(NAMED_IN_ERROR)})" if first.rows else ""
        also = f"; also failed: {', '.join(_label(one) for one in others)}" if others else ""
        raise ValidationError(
            first.subject,
            found=f"{first.found}{named}{also}",
            wanted=first.wanted,
            next_step=f"{first.next_step} Data Docs show every check: {self.docs} in METAREC_HOME",
        )


def _label(failure: Failure) -> str:
    count = f" ({failure.unexpected_count} rows)" if failure.unexpected_count else ""
    return f"{failure.suite}.{failure.expectation}{count}"
