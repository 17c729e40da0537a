"""Search for better settings of a learner on the configured dataset."""

from __future__ import annotations

from datetime import date

from prefect import flow

from flows.nightly import prepare
from metarec_core.config import Config
from metarec_core.reporting.status import RunStatus
from tasks.night import night
from tasks.tune import tune_learner

DEFAULTS = Config()


@flow(name="tune")
def tune(config: Config = DEFAULTS, run_date: date | None = None) -> RunStatus:
    """Try settings of ``config.tune.learner``; the winner becomes a file that a night takes.

    Args:
        config: Every setting; ``tune`` says what is sought.
        run_date: The run's date; empty: the date for which it was scheduled.
    """
    with night("tune", config, run_date) as run:
        data = prepare(run)
        tune_learner(run, data.features, data.episodes)
    return run.status
