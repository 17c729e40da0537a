"""Models by name or by the lists that they made, loaded from the lake or from the registry.

MLflow is imported where the registry is asked: that takes seconds, and a list whose model is still
in the lake is explained without it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from metarec_core.errors import ModelError
from metarec_core.home import Home
from metarec_core.reporting.traces import Traces, trained_bundle
from metarec_core.serving.bundle import Bundle, load_bundle

if TYPE_CHECKING:
    from tasks.tracking import ChampionRef


def champion_bundle(home: Home) -> tuple[Bundle, ChampionRef]:
    """The champion, and what the registry says of it.

    Raises:
        ModelError: If there is none yet, or this code cannot read it.
        StorageError: If its files cannot be read.
        ServiceError: If MLflow does not answer.
    """
    from tasks.tracking import champion, open_store

    store = open_store(home)
    found = champion(store)
    if found is None:
        raise ModelError(
            "models:/metarec@champion",
            found="no champion yet",
            wanted="a model that passed the gate",
            next_step="run 'metarec demo' or 'metarec run'",
        )
    trained = trained_bundle(home, found.learner, found.content_hash)
    return (load_bundle(trained), found) if trained else (_downloaded(home, found), found)


def bundle_of_lists(home: Home, traces: Traces) -> Bundle:
    """The model that made published lists, whoever is champion now.

    Raises:
        ModelError: If the lists do not name it, it is gone, or this code cannot read it.
        StorageError: If its files cannot be read.
        ServiceError: If MLflow does not answer.
    """
    if traces.model is not None:
        return load_bundle(traces.model)
    named = traces.manifest.get("model") or {}
    if "version" not in named:
        raise ModelError(
            "published lists",
            found="a manifest that names no model",
            wanted="the version that made them",
            next_step="publish the lists again: 'metarec recommend'",
        )
    from tasks.tracking import model_version, open_store

    return _downloaded(home, model_version(open_store(home), int(named["version"])))


def _downloaded(home: Home, ref: ChampionRef) -> Bundle:
    from tasks.tracking import download_bundle, open_store

    with tempfile.TemporaryDirectory() as scratch:
        return load_bundle(download_bundle(open_store(home), ref, Path(scratch)))
