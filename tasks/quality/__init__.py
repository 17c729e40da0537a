"""Judges tables with Great Expectations: raw data, cleaned data and published lists.

Suites are JSON files in ``expectations/``; Great Expectations evaluates them with its SQL engine
over DuckDB views on the stage's Parquet files, through a small SQLAlchemy dialect of our own
(:mod:`tasks.quality.dialect`). The alternative, handing DuckDB-computed profiles to its pandas
engine, was rejected for these reasons:

- exact: every expectation sees every row, and counts what it rejects; a profile has to anticipate
  each question and shows readers of Data Docs only derived numbers;
- bounded memory: only aggregates and at most ``max_named_rows`` rows a failure reach Python,
  and DuckDB spills past its limit, where the pandas engine holds the whole table (1.75 GB at
  10 million rows);
- fast: 100,000 interactions with their side tables and pages take about a second, a million under
  two; duplicates and references between tables are semi and anti joins, written in the suite as
  the query that names the offending rows, at half the cost of Great Expectations' own compound
  uniqueness;
- little code: the dialect is the only part that the pandas engine would not need.

Great Expectations is imported on the first judgement (it takes three seconds), in
:mod:`tasks.quality.engine` alone: a night that reuses a stage never pays for it.
"""

from tasks.quality.judge import Options, judge
from tasks.quality.report import Failure, QualityReport, Severity
from tasks.quality.stages import Minimums, validate_recommendations, validate_tables
from tasks.quality.suites import fingerprint

__all__ = [
    "Failure",
    "Minimums",
    "Options",
    "QualityReport",
    "Severity",
    "fingerprint",
    "judge",
    "validate_recommendations",
    "validate_tables",
]
