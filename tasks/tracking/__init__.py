"""MLflow, and nothing but MLflow: runs, lineage and the model registry behind plain functions.

Only this package and the models-from-code entry ``tasks/model.py`` import MLflow. Nothing here
uses MLflow's "active run": every call names its run, so tasks may run in any thread or process.
"""

from tasks.tracking.interface import requirements
from tasks.tracking.lineage import Context
from tasks.tracking.registry import (
    CHALLENGER,
    champion,
    promote,
    register_challenger,
    require_same_dataset,
)
from tasks.tracking.runs import TrackedRun, night_run, stage_run, trial_run
from tasks.tracking.store import EXPERIMENT, TrackingStore, open_store
from tasks.tracking.versions import (
    BUNDLE,
    CHAMPION,
    MODEL_NAME,
    ChampionRef,
    download_bundle,
    model_version,
)

__all__ = [
    "BUNDLE",
    "CHALLENGER",
    "CHAMPION",
    "EXPERIMENT",
    "MODEL_NAME",
    "ChampionRef",
    "Context",
    "TrackedRun",
    "TrackingStore",
    "champion",
    "download_bundle",
    "model_version",
    "night_run",
    "open_store",
    "promote",
    "register_challenger",
    "require_same_dataset",
    "requirements",
    "stage_run",
    "trial_run",
]
