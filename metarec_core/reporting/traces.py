"""What a published list was made from, found again by content hash in the lake."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metarec_core.errors import StorageError
from metarec_core.home import Home
from metarec_core.reporting.lists import read_publication
from metarec_core.storage import MANIFEST, hash_directory, read_manifest

_INPUTS = ("clean", "features", "episodes")


@dataclass(frozen=True, slots=True)
class Traces:
    """Where the inputs of published lists still are; None for what is gone.

    Attributes:
        manifest: Of the publication: run, model, facts.
        clean: Output of the clean stage.
        features: Output of the features stage.
        episodes: Output of the episodes stage.
        model: Directory of the model's bundle, as the training stage left it.
    """

    manifest: Mapping[str, Any]
    clean: Path | None
    features: Path | None
    episodes: Path | None
    model: Path | None

    @property
    def data(self) -> tuple[Path, Path, Path] | None:
        """``clean``, ``features`` and ``episodes``, if none of them is gone."""
        if self.clean is None or self.features is None or self.episodes is None:
            return None
        return self.clean, self.features, self.episodes


def traces_of(home: Home, publication: Path) -> Traces:
    """Look for what made the lists in ``publication``, a directory with a manifest.

    Raises:
        StorageError: If the manifest cannot be read.
    """
    manifest = read_publication(publication)
    inputs = manifest.get("inputs", {})
    model = manifest.get("model") or {}
    found = {stage: stage_output(home, stage, inputs.get(stage)) for stage in _INPUTS}
    return Traces(
        manifest=manifest,
        clean=found["clean"],
        features=found["features"],
        episodes=found["episodes"],
        model=trained_bundle(home, model.get("learner"), model.get("content_hash")),
    )


def stage_output(home: Home, stage: str, content_hash: str | None) -> Path | None:
    """The lake's output of a stage with that content; None if it has been pruned."""
    for path in sorted((home.lake / stage).glob(f"*/{MANIFEST}")):
        try:
            if read_manifest(path.parent).content_hash == content_hash:
                return path.parent
        except StorageError:
            continue
    return None


def trained_bundle(home: Home, learner: str | None, content_hash: str | None) -> Path | None:
    """The bundle with that content among those that training left in the lake."""
    for path in sorted((home.lake / "train").glob(f"*/{learner}/bundle.json")):
        if hash_directory(path.parent) == content_hash:
            return path.parent
    return None
