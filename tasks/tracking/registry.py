"""The model registry: challengers are registered, the champion is an alias that moves."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import mlflow.pyfunc
from mlflow.exceptions import MlflowException
from mlflow.models import Model, get_model_info

import metarec_core
from metarec_core.errors import ModelError, ServiceError, StorageError
from metarec_core.serving.bundle import load_bundle
from metarec_core.storage import code_version, hash_directory
from tasks.tracking.interface import input_example, requirements, signature
from tasks.tracking.naming import flat_numbers
from tasks.tracking.store import TrackingStore
from tasks.tracking.versions import (
    ABSENT,
    BUNDLE,
    CHAMPION,
    MODEL_NAME,
    ChampionRef,
    model_version,
    readable,
    reference,
)

CHALLENGER = "challenger"

_ENTRY = Path(__file__).resolve().parent.parent / "model.py"

_logger = logging.getLogger(__name__)


def register_challenger(
    store: TrackingStore,
    bundle_dir: Path,
    *,
    run_id: str,
    learner: str,
    stage_key: str,
    run_date: date,
    metrics: Mapping[str, Any],
) -> ChampionRef:
    """Log a bundle as a model, register it and point the alias ``challenger`` at it.

    The same bundle under the same code is registered once: a second call only moves the alias.

    Args:
        store: Where to.
        bundle_dir: A directory written by ``metarec_core.serving.bundle.save_bundle``.
        run_id: The run that made it.
        learner: The learner's name.
        stage_key: Key of the stage that trained it.
        run_date: The night's date.
        metrics: Numbers to keep with the version; nested names are joined with ``/``.

    Raises:
        ModelError: If the bundle is damaged, or the model does not predict its own example.
    """
    content = hash_directory(bundle_dir)
    found = _registered(store, content)
    if found is None:
        tags = {
            "learner": learner,
            "content_hash": content,
            "code_version": code_version(),
            "stage_key": stage_key,
            "run_date": str(run_date),
            "metrics": json.dumps(flat_numbers(metrics), sort_keys=True),
        }
        found = _register(store, bundle_dir, run_id, tags)
    with store.guarded(f"set alias {CHALLENGER}"):
        store.client.set_registered_model_alias(MODEL_NAME, CHALLENGER, str(found.version))
    return found


def promote(store: TrackingStore, version: int, *, over: ChampionRef | None) -> ChampionRef:
    """Point the alias ``champion`` at a version.

    Args:
        store: Where.
        version: The new champion.
        over: The champion that it was judged against; None if there was none.

    Raises:
        ModelError: If there is no such version.
        ServiceError: If somebody has moved the alias meanwhile; it is left as it is.
    """
    found = model_version(store, version)
    expected = over.version if over else None
    with store.guarded(f"set alias {CHAMPION}"):
        target = _champion_target(store)
        if target != expected:
            raise ServiceError(
                f"alias {CHAMPION!r} of the model {MODEL_NAME!r}",
                found=f"{_version_text(target)}: the champion changed while this night was judged",
                wanted=f"{_version_text(expected)}, which version {version} was judged against",
                next_step="run again: finished stages are reused, and the new champion is judged",
            )
        store.client.set_registered_model_alias(MODEL_NAME, CHAMPION, str(version))
    return found


def champion(store: TrackingStore) -> ChampionRef | None:
    """The version behind the alias ``champion``; None if there has been none yet.

    Raises:
        ModelError: If the alias points at a version that is gone or that metarec did not make.
    """
    with store.guarded("look up the champion"):
        target = _champion_target(store)
    return None if target is None else model_version(store, target)


def require_same_dataset(store: TrackingStore, dataset: str) -> ChampionRef | None:
    """The champion, if it serves ``dataset``; None if there has been none yet.

    One store has one champion, so that ``models:/metarec@champion`` needs no more to be known.
    Called before anything is trained: another dataset must not take its place unasked.

    Raises:
        ModelError: If the champion serves another dataset; see also :func:`champion`.
    """
    found = champion(store)
    if found is not None and found.dataset != dataset:
        command = (
            f"from mlflow import MlflowClient; MlflowClient({store.address!r})"
            f".delete_registered_model_alias({MODEL_NAME!r}, {CHAMPION!r})"
        )
        raise ModelError(
            f"dataset {dataset!r}",
            found=f"a home whose champion (version {found.version}) serves dataset "
            f"{found.dataset!r}",
            wanted="one dataset in a home and its MLflow store",
            next_step=f"use another METAREC_HOME (or MLFLOW_TRACKING_URI) for {dataset!r}; or, to "
            f'give this one to it for good, delete the alias: python -c "{command}"',
        )
    return found


def _version_text(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"


def _registered(store: TrackingStore, content: str) -> ChampionRef | None:
    """The newest intact version of the same bundle under the same code."""
    wanted = (
        f"name = '{MODEL_NAME}' AND tags.content_hash = '{content}' "
        f"AND tags.code_version = '{code_version()}'"
    )
    with store.guarded("look for the same model"):
        versions = store.client.search_model_versions(wanted)
    for version in sorted(versions, key=lambda item: int(item.version), reverse=True):
        found = reference(version)
        try:
            with readable(store, found):
                get_model_info(found.uri)
        except StorageError as error:
            _logger.warning("%s; it is registered again", error)
        else:
            return found
    return None


def _register(
    store: TrackingStore, bundle_dir: Path, run_id: str, tags: dict[str, str]
) -> ChampionRef:
    bundle = load_bundle(bundle_dir)
    tags = tags | {"dataset": bundle.dataset}
    example = input_example(bundle)
    with store.guarded("log the model"):
        # Left to itself Model.log puts models into whatever experiment the process calls active.
        holder = store.client.create_logged_model(
            store.experiment_id, name=MODEL_NAME, source_run_id=run_id, tags=tags
        )
        logged = Model.log(
            artifact_path=None,
            model_id=holder.model_id,
            flavor=mlflow.pyfunc,
            run_id=run_id,
            python_model=str(_ENTRY),
            artifacts={BUNDLE: str(bundle_dir)},
            code_paths=[str(Path(metarec_core.__file__).parent)],
            signature=signature(bundle),
            input_example=example,
            pip_requirements=requirements(),
        )
        _check_prediction(logged.model_uri, example)
        _ensure_registered_model(store)
        version = store.client.create_model_version(
            MODEL_NAME,
            source=logged.model_uri,
            run_id=run_id,
            tags=tags,
            model_id=logged.model_id,
        )
    return reference(version)


def _check_prediction(model_uri: str, example: Any) -> None:
    """Load the model as a stranger would and let it predict its own example."""
    path = list(sys.path)
    try:
        rows = len(mlflow.pyfunc.load_model(model_uri).predict(example))
    except MlflowException as error:
        raise ModelError(
            f"model {model_uri}",
            found=f"it does not load or predict: {error.message}",
            wanted="a prediction for its own input example",
            next_step="repair tasks/model.py or the bundle; nothing was registered",
        ) from error
    finally:
        # Loading puts the model's copy of the code on the path; this process has its own.
        sys.path[:] = path
    if rows == 0:
        raise ModelError(
            f"model {model_uri}",
            found="an empty prediction for its own input example",
            wanted="ranked rows",
            next_step="check the bundle's catalogue; nothing was registered",
        )


def _ensure_registered_model(store: TrackingStore) -> None:
    try:
        store.client.create_registered_model(
            MODEL_NAME, description="Recommendations from a few interactions, or none."
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _champion_target(store: TrackingStore) -> int | None:
    # Looked up on the registered model: asking for the alias directly answers a dangling one and
    # a missing one alike.
    try:
        aliases = store.client.get_registered_model(MODEL_NAME).aliases
    except MlflowException as error:
        if error.error_code not in ABSENT:
            raise
        return None
    target = aliases.get(CHAMPION)
    return None if target is None else int(target)
