"""A run that cannot start is a failed run too: Prefect shows it beside the others."""

from __future__ import annotations

import os
from datetime import date
from typing import Any

from metarec_core.errors import MetarecError, StorageError
from metarec_core.home import Home


def record_refusal(name: str, given: Any, run_date: date | None, home: Home) -> None:
    """Let the flow ``name`` fail by itself on what it was ``given``.

    Without a server of its own Prefect keeps its runs in the home: if that cannot be written,
    nothing can be recorded.

    Args:
        name: The flow.
        given: Its settings as they were written, out of bounds or not.
        run_date: Its run date.
        home: The home it was to write.

    Raises:
        ServiceError: If Prefect's server does not answer, so that nothing was recorded.
    """
    if not os.environ.get("PREFECT_API_URL"):
        try:
            home.ensure()
        except StorageError:
            return
    # The command has said what is wrong; the run's state says it again.
    os.environ["PREFECT_LOGGING_LEVEL"] = "CRITICAL"
    from prefect.exceptions import ParameterTypeError

    from flows.start import load_flow

    flow = load_flow(name, home)
    try:
        flow(given, run_date)
    except (MetarecError, ParameterTypeError):
        return
