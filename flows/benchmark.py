"""Compare learners with published figures and with baselines, by one of the protocols."""

from __future__ import annotations

from datetime import date

from prefect import flow

from metarec_core.config import Config
from metarec_core.reporting.status import RunStatus
from tasks.benchmark import run_protocol
from tasks.night import night

DEFAULTS = Config()


@flow(name="benchmark")
def benchmark(config: Config = DEFAULTS, run_date: date | None = None) -> RunStatus:
    """Fit and judge learners by ``config.benchmark.protocol``; nothing is promoted or published.

    Args:
        config: Every setting; of the dataset's and the night's nothing is read.
        run_date: The run's date; empty: the date for which it was scheduled.
    """
    protocol = config.benchmark.protocol
    with night("benchmark", config, run_date, dataset=f"protocol {protocol}") as run:
        run_protocol(run)
    return run.status
