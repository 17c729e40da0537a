"""Errors that metarec raises on purpose are logged as their message, without a traceback."""

from __future__ import annotations

import logging

from metarec_core.errors import MetarecError

_TASKS = "prefect.task_runs"
_ENGINES = ("prefect.flow_runs", _TASKS)


class ExpectedErrors(logging.Filter):
    """Strips the traceback of a :class:`MetarecError`: its message says what to do."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten records that carry an expected error; a task's state says it once more anyway."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if not isinstance(error, MetarecError):
            return True
        record.msg, record.args = "%s", (str(error),)
        record.exc_info = record.exc_text = None
        return record.name != _TASKS


def shorten_expected_errors() -> None:
    """Install the filter on the loggers of Prefect's engines; once is enough."""
    for name in _ENGINES:
        logger = logging.getLogger(name)
        if not any(isinstance(known, ExpectedErrors) for known in logger.filters):
            logger.addFilter(ExpectedErrors())
