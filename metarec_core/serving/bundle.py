"""A model that serves by itself: learner, catalogue and user encoder as one directory of files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pydantic
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from metarec_core.calibration.relevance import ByMode, load_relevance, save_relevance
from metarec_core.episodes.split import SplitFractions
from metarec_core.episodes.types import ValueScale
from metarec_core.errors import ConfigError, ModelError
from metarec_core.features.encoder import FeatureEncoder
from metarec_core.features.named import NamedFeatures
from metarec_core.learners.base import Learner
from metarec_core.learners.registry import learner_class
from metarec_core.schema import Columns
from metarec_core.storage import code_version, hash_file

FORMAT = "metarec-bundle"
FORMAT_VERSION = 3
"""Raised when files change such that other code would misread them, a learner's tensors too."""

_ALSO_READABLE = frozenset({2})
"""Version 2 lacks nothing but files that may be missing."""

_INDEX = "bundle.json"
_WEIGHTS = "weights.safetensors"
CATALOGUE = "catalogue.parquet"
_RELEVANCE = "relevance.json"
_ENCODER = "user_encoder"
_NAMED = "named_features.parquet"

_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Bundle:
    """All that is needed to recommend to a user who was never seen.

    Attributes:
        learner: A fitted learner.
        learner_name: Its name in the registry.
        catalogue: ``item_id`` and ``title``; the row number is the catalogue index.
        user_encoder: Turns user features into the learner's input.
        scale: What values mean, and which are legal.
        dataset: Name of the dataset it was trained on.
        split: How users were divided in training; None: unknown, taken to be as at present.
        named: What its items have in common, in words; None: not known.
        relevance: Calibration of P(relevant) by mode (:mod:`metarec_core.calibration`); a mode
            of which nothing is known is missing.
        newest: Time of the newest interaction that it was trained on, in seconds since 1970;
            None: unknown.
        device: Where the learner computes; not saved.
    """

    learner: Learner
    learner_name: str
    catalogue: pl.DataFrame
    user_encoder: FeatureEncoder
    scale: ValueScale
    dataset: str
    split: SplitFractions | None = None
    named: NamedFeatures | None = None
    relevance: ByMode = field(default_factory=dict)
    newest: int | None = None
    device: torch.device = _CPU


def save_bundle(bundle: Bundle, directory: Path) -> None:
    """Write a bundle: the same model gives the same bytes.

    ``bundle.json`` holds the settings and the SHA-256 of every other file;
    ``weights.safetensors`` what was learned; ``catalogue.parquet`` the items;
    ``user_encoder.*`` the encoder; ``named_features.parquet``, where they are known, what items
    have in common; ``relevance.json``, where there is any, the calibration.

    Args:
        bundle: The model.
        directory: Where to write; made if absent, files of an older bundle are replaced.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # Safetensors refuses views that share memory, and learners may keep some.
    state = {name: tensor.detach().cpu().clone() for name, tensor in bundle.learner.state().items()}
    save_file({name: state[name].contiguous() for name in sorted(state)}, directory / _WEIGHTS)
    bundle.catalogue.select(Columns.ITEM, Columns.TITLE).write_parquet(directory / CATALOGUE)
    for stale in directory.glob(f"{_ENCODER}.*"):
        stale.unlink()
    bundle.user_encoder.save(directory, _ENCODER)
    (directory / _NAMED).unlink(missing_ok=True)
    if bundle.named is not None:
        bundle.named.save(directory / _NAMED)
    (directory / _RELEVANCE).unlink(missing_ok=True)
    if bundle.relevance:
        save_relevance(bundle.relevance, directory / _RELEVANCE)
    optional = [name for name in (_NAMED, _RELEVANCE) if (directory / name).exists()]
    encoder = (path.name for path in directory.glob(f"{_ENCODER}.*"))
    files = [_WEIGHTS, CATALOGUE, *optional, *encoder]
    index = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "dataset": bundle.dataset,
        "learner": {
            "name": bundle.learner_name,
            "config": bundle.learner.config.model_dump(mode="json"),
        },
        "scale": asdict(bundle.scale),
        "split": asdict(bundle.split) if bundle.split else None,
        "newest": bundle.newest,
        "files": {name: hash_file(directory / name) for name in files},
    }
    text = json.dumps(index, indent=2, sort_keys=True)
    (directory / _INDEX).write_text(text + "\n", encoding="utf-8")


def load_bundle(directory: Path, device: torch.device = _CPU) -> Bundle:
    """Read what :func:`save_bundle` wrote; nothing is unpickled.

    Args:
        directory: Directory of the bundle.
        device: Where the learner is to compute.

    Raises:
        ModelError: If a file is missing or damaged, or another version of metarec made them.
    """
    index = _read_index(directory / _INDEX)
    _check_files(directory, index["files"])
    try:
        scale, split = dict(index["scale"]), index.get("split")
        catalogue = pl.read_parquet(directory / CATALOGUE, columns=[Columns.ITEM, Columns.TITLE])
        named = directory / _NAMED if _NAMED in index["files"] else None
        return Bundle(
            learner=_learner(directory, index["learner"], device),
            learner_name=index["learner"]["name"],
            catalogue=catalogue,
            user_encoder=FeatureEncoder.load(directory, _ENCODER),
            scale=ValueScale.from_json(scale),
            dataset=index["dataset"],
            split=SplitFractions(**split) if split else None,
            named=NamedFeatures.load(named, len(catalogue)) if named else None,
            relevance=_relevance(directory, index["files"]),
            newest=index.get("newest"),
            device=device,
        )
    except (
        KeyError,
        TypeError,
        ValueError,
        RuntimeError,
        OSError,
        ConfigError,
        pl.exceptions.PolarsError,
        SafetensorError,
    ) as error:
        raise _unusable(
            f"model bundle {directory}",
            f"{type(error).__name__}: {error}",
            "files written by this version of metarec",
        ) from error


def _relevance(directory: Path, files: Mapping[str, str]) -> ByMode:
    return load_relevance(directory / _RELEVANCE) if _RELEVANCE in files else {}


def _learner(directory: Path, described: Mapping[str, Any], device: torch.device) -> Learner:
    kind = learner_class(described["name"])
    try:
        config = kind.Config.model_validate(described["config"])
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _foreign(
            f"settings of learner {described['name']} in {directory / _INDEX}",
            f"{where}: {first['msg']}",
        ) from error
    subject = f"tensors of learner {described['name']} in {directory / _WEIGHTS}"
    stored = load_file(directory / _WEIGHTS)
    try:
        learner = kind.from_state(config, stored, device)
        known = set(learner.state())
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise _foreign(subject, f"{type(error).__name__}: {error}") from error
    # What the code passes over in silence it does not know either.
    if strange := sorted(known ^ set(stored)):
        raise _foreign(subject, f"other names: {', '.join(strange)}")
    return learner


def _read_index(path: Path) -> dict[str, Any]:
    wanted = f"a {FORMAT} of format version {FORMAT_VERSION}"
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unusable(f"model bundle {path}", f"{type(error).__name__}: {error}", wanted) from (
            error
        )
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise _unusable(f"model bundle {path}", "JSON of something else", wanted)
    if index.get("version") not in _ALSO_READABLE | {FORMAT_VERSION}:
        raise _foreign(f"model bundle {path}", f"format version {index.get('version')}")
    missing = sorted({"dataset", "learner", "scale", "files"} - set(index))
    if missing or not isinstance(index["files"], dict):
        raise _unusable(f"model bundle {path}", f"no {', '.join(missing) or 'file list'}", wanted)
    return index


def _check_files(directory: Path, hashes: Mapping[str, str]) -> None:
    for name in sorted({_WEIGHTS, CATALOGUE, *hashes}):
        path = directory / Path(name).name
        if not path.is_file():
            raise _unusable(f"model file {path}", "no such file", "the file bundle.json lists")
        if hash_file(path) != hashes.get(name):
            raise _unusable(
                f"model file {path}", "other content than was saved", "the bytes that were saved"
            )


def _foreign(subject: str, found: str) -> ModelError:
    return ModelError(
        subject,
        found=f"made by another version of metarec ({found})",
        wanted=f"format version {FORMAT_VERSION} as metarec {code_version()} writes it",
        next_step="train a model with 'metarec run'; if that does not become champion, delete the "
        "alias 'champion' of this one and run again, or go back to the version that made it",
    )


def _unusable(subject: str, found: str, wanted: str) -> ModelError:
    return ModelError(
        subject,
        found=found,
        wanted=wanted,
        next_step="fetch the model again from the registry, or train one with 'metarec run'",
    )
