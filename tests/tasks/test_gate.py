"""The gate moves the alias after a comparison, and for nothing less."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
import polars as pl
import pytest

from metarec_core.episodes.split import SplitFractions
from metarec_core.episodes.store import load_tasks
from metarec_core.errors import ModelError, ServiceError, StorageError
from metarec_core.storage import hash_directory
from tasks import gate as gate_module
from tasks.gate import champion_of_dataset, gate, read_verdict, reigning_champion
from tasks.tracking import MODEL_NAME, champion, register_challenger


def judge(workshop: Any) -> Any:
    return gate.fn(workshop.night, *workshop.data, workshop.trained)


def verdict_of(workshop: Any) -> Any:
    return read_verdict(workshop.night.outputs["gate"])


def test_the_first_champion_is_the_best_learner(workshop: Any) -> None:
    ruling = judge(workshop)
    assert champion(workshop.night.store) == ruling
    assert (ruling.dataset, ruling.learner) == ("shop", verdict_of(workshop).winner)


@pytest.mark.parametrize("harm", ["missing", "damaged"])
def test_a_champion_that_cannot_be_read_is_not_replaced_unread(
    workshop: Any, harm: str, tmp_path: Path
) -> None:
    # Of its own content: versions of the same bytes are looked up by other tests.
    split = SplitFractions(0.1, {"missing": 0.31, "damaged": 0.32}[harm])
    reigning = workshop.enthrone(workshop.bundle("popularity", tmp_path, split=split), "popularity")
    uri = workshop.night.store.client.get_model_version_download_uri(
        MODEL_NAME, str(reigning.version)
    )
    files = Path(unquote(urlparse(uri).path))
    if harm == "missing":
        shutil.rmtree(files)
    else:
        next(files.rglob("weights.safetensors")).write_bytes(b"half")
    with pytest.raises(StorageError, match=f"files of models:/metarec/{reigning.version}"):
        judge(workshop)
    assert champion(workshop.night.store) == reigning


def test_a_champion_of_another_format_stays_until_it_is_beaten(
    workshop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = workshop.bundle("popularity", tmp_path)
    index = json.loads((directory / "bundle.json").read_text())
    (directory / "bundle.json").write_text(json.dumps(index | {"version": 1}))
    with monkeypatch.context() as patch:
        patch.setattr("metarec_core.serving.bundle.FORMAT_VERSION", 1)
        reigning = workshop.enthrone(directory, "popularity")
    assert judge(workshop) == reigning
    verdict = verdict_of(workshop)
    assert verdict.verdict == "kept"
    assert "made by another version of metarec (format version 1)" in verdict.reason


def test_a_champion_of_other_items_is_an_obstacle(workshop: Any, tmp_path: Path) -> None:
    items = load_tasks(workshop.episodes.path, workshop.features.path).catalogue
    foreign = items.with_columns(item_id="x" + pl.col("item_id"))
    directory = workshop.bundle("popularity", tmp_path, catalogue=foreign)
    reigning = workshop.enthrone(directory, "popularity")
    assert judge(workshop) == reigning
    assert verdict_of(workshop).verdict == "kept"
    assert "none of tonight's 60 items" in verdict_of(workshop).reason


def test_another_dataset_never_takes_the_alias(workshop: Any, tmp_path: Path) -> None:
    directory = workshop.bundle("popularity", tmp_path, dataset="pantry")
    reigning = workshop.enthrone(directory, "popularity")
    for ask in (
        lambda: judge(workshop),
        lambda: reigning_champion.fn(workshop.night),
        lambda: champion_of_dataset(workshop.night),
    ):
        with pytest.raises(ModelError, match="serves dataset 'pantry'"):
            ask()
    assert champion(workshop.night.store) == reigning


def test_the_champion_is_judged_by_users_it_was_not_trained_on(
    workshop: Any, tmp_path: Path
) -> None:
    split = SplitFractions(validation=0.1, test=0.15)
    workshop.enthrone(workshop.bundle("popularity", tmp_path, split=split), "popularity")
    judge(workshop)
    frame = pl.read_parquet(workshop.night.outputs["gate"].path / "evaluation.parquet")
    judged = {name[0]: set(part["user"]) for name, part in frame.partition_by(
        "learner", as_dict=True).items()}  # fmt: skip
    tasks = load_tasks(workshop.episodes.path, workshop.features.path)
    untrained = set(np.flatnonzero(split.judges(tasks.user_ids)).tolist())
    assert judged["champion"] == judged["bias"] & untrained
    assert 0 < len(judged["champion"]) < len(judged["bias"])


def test_a_baseline_that_reigns_gives_way_to_tonight_s_edition(
    workshop: Any, tmp_path: Path
) -> None:
    split = SplitFractions(validation=0.2, test=0.3)
    old = workshop.enthrone(workshop.bundle("popularity", tmp_path, split=split), "popularity")
    ruling = judge(workshop)
    assert (ruling.learner, verdict_of(workshop).promoted) == ("popularity", True)
    assert ruling.version != old.version
    assert ruling.content_hash == hash_directory(workshop.trained.path / "popularity")
    assert champion(workshop.night.store) == ruling
    # The same again: it is that edition already.
    assert judge(workshop) == ruling
    assert verdict_of(workshop).verdict == "kept"


def test_a_champion_that_changed_meanwhile_is_left_alone(
    workshop: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = workshop.bundle("bias", tmp_path, split=SplitFractions(0.1, 0.33))

    def register_and_interfere(*args: Any, **kwargs: Any) -> Any:
        found = register_challenger(*args, **kwargs)
        if champion(workshop.night.store) is None:
            workshop.enthrone(other, "bias")
        return found

    monkeypatch.setattr(gate_module, "register_challenger", register_and_interfere)
    with pytest.raises(ServiceError, match="the champion changed while this night was judged"):
        judge(workshop)
    assert champion(workshop.night.store).content_hash == hash_directory(other)
