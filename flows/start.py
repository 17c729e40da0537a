"""Start a flow from the command line: slow starts that need not wait for each other."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date
from typing import TYPE_CHECKING

from metarec_core.errors import MetarecError, ServiceError
from metarec_core.home import Home

if TYPE_CHECKING:
    from metarec_core.config import Config
    from metarec_core.reporting.status import RunStatus

    Flow = Callable[[Config, date | None], RunStatus]


def load_flow(name: str, home: Home) -> Flow:
    """The flow ``name``, with Prefect's server up and the home's MLflow store open.

    Without a server of its own Prefect starts a temporary one, which takes ten seconds on a new
    home. It is started first; importing the flows and creating the store take about as long.

    Raises:
        ServiceError: If the temporary server does not come up, or the server that
            ``PREFECT_API_URL`` names does not answer.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        server = None if os.environ.get("PREFECT_API_URL") else pool.submit(_server())
        from flows import benchmark, nightly, tune
        from tasks.tracking import open_store

        # A store that cannot be opened fails the run itself, where Prefect sees it.
        with suppress(MetarecError):
            open_store(home)
        if server is None:
            _require_answer()
        else:
            try:
                server.result()
            except RuntimeError as error:
                raise ServiceError(
                    "Prefect's temporary server",
                    found=str(error),
                    wanted="a server that answers within "
                    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS",
                    next_step="run again on a machine that is less busy, raise that variable, "
                    "or start servers that stay: 'make up'",
                ) from error
    own = {"benchmark": benchmark, "tune": tune}
    flow: Flow = getattr(own.get(name, nightly), name)
    return flow


def _require_answer() -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        problem = client.api_healthcheck()
    if problem is not None:
        raise ServiceError(
            f"Prefect's server {os.environ['PREFECT_API_URL']}",
            found=f"{type(problem).__name__}: {problem}",
            wanted="an answer",
            next_step="start that server, correct PREFECT_API_URL, or unset it: without one a "
            "temporary server is used",
        ) from problem


def _server() -> Callable[[], None]:
    # Imported here, in the caller's thread: two threads that import one package at a time may
    # meet its modules half-made.
    from prefect.server.api.server import SubprocessASGIServer

    return SubprocessASGIServer().start
