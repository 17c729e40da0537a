"""Errors that metarec raises on purpose are logged as their message, without a traceback."""

from __future__ import annotations

import logging

from metarec_core.errors import MetarecError

_ENGINES = ("prefect.flow_runs", "prefect.task_runs")


class ExpectedErrors(logging.Filter):
    """Strips the traceback of a :class:`MetarecError`: its message says what to do."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record; shorten those that carry an expected error."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if isinstance(error, MetarecError):
            record.msg, record.args = "%s", (str(error),)
            record.exc_info = record.exc_text = None
        return True


def shorten_expected_errors() -> None:
    """Install the filter on the loggers of Prefect's engines; once is enough."""
    for name in _ENGINES:
        logger = logging.getLogger(name)
        if not any(isinstance(known, ExpectedErrors) for known in logger.filters):
            logger.addFilter(ExpectedErrors())
