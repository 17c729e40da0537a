"""Start a learner on one dataset from what another taught."""

from __future__ import annotations

from datetime import date

from prefect import flow

from metarec_core.config import Config
from metarec_core.reporting.status import RunStatus
from tasks.night import night
from tasks.transfer import run_transfer

DEFAULTS = Config()


@flow(name="transfer")
def transfer(config: Config = DEFAULTS, run_date: date | None = None) -> RunStatus:
    """Judge ``config.transfer`` against learning from scratch; nothing is promoted or published.

    Args:
        config: Every setting; of the dataset's and the night's nothing is read.
        run_date: The run's date; empty: the date for which it was scheduled.
    """
    asked = config.transfer
    dataset = f"{asked.source} to {asked.target}"
    with night("transfer", config, run_date, dataset=dataset) as run:
        run_transfer(run)
    return run.status
