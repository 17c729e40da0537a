from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from safetensors.torch import load_file, save_file

from metarec_core.calibration.curves import Affine
from metarec_core.calibration.relevance import Basis, RelevanceCalibration
from metarec_core.calibration.sizes import KNOTS
from metarec_core.episodes.split import SplitFractions
from metarec_core.errors import ModelError
from metarec_core.features.named import NamedFeatures
from metarec_core.features.spec import FeatureSpec
from metarec_core.learners.registry import LEARNERS
from metarec_core.schema import FeatureKind
from metarec_core.serving.bundle import Bundle, load_bundle, save_bundle
from metarec_core.serving.recommender import Recommender
from metarec_core.storage import hash_file


@pytest.fixture
def saved(bundles: dict[str, Bundle], tmp_path: Path) -> Path:
    save_bundle(bundles["bias"], tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_a_loaded_bundle_recommends_the_same(
    name: str, bundles: dict[str, Bundle], tmp_path: Path, world
) -> None:
    save_bundle(bundles[name], tmp_path)
    loaded = load_bundle(tmp_path)

    assert (loaded.learner_name, loaded.dataset, loaded.scale) == (name, "tiny", world.data.scale)
    assert loaded.catalogue.equals(world.catalogue)
    rows = world.rows([3, 4]).join(world.users, on="user_id")
    expected = Recommender(bundles[name]).recommend(rows).frame
    assert Recommender(loaded).recommend(rows).frame.equals(expected)


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_the_same_model_gives_the_same_bytes(
    name: str, bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    save_bundle(bundles[name], tmp_path / "first")
    save_bundle(load_bundle(tmp_path / "first"), tmp_path / "second")

    first = {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    second = {path.name: path.read_bytes() for path in (tmp_path / "second").iterdir()}
    assert first == second
    assert {"bundle.json", "weights.safetensors", "catalogue.parquet"} < set(first)


def test_named_features_travel_with_it(bundles: dict[str, Bundle], tmp_path: Path, world) -> None:
    spec = {"genres": FeatureSpec(column="g", kind=FeatureKind.MULTI)}
    genres = pl.DataFrame({"genres": [["War"]] * len(world.catalogue)})
    named = NamedFeatures.of(genres, spec, ["genres=War"])
    save_bundle(replace(bundles["bias"], named=named), tmp_path)
    loaded = load_bundle(tmp_path)
    assert loaded.named is not None
    assert loaded.named.frame.equals(named.frame)
    save_bundle(bundles["bias"], tmp_path)
    assert load_bundle(tmp_path).named is None
    assert not list(tmp_path.glob("named*"))


def test_an_older_bundle_is_replaced(
    saved: Path, bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    (saved / "user_encoder.safetensors").write_bytes(b"of another night")
    save_bundle(bundles["popularity"], saved)
    assert load_bundle(saved).learner_name == "popularity"
    save_bundle(bundles["popularity"], tmp_path / "fresh")
    assert sorted(path.name for path in saved.iterdir()) == sorted(
        path.name for path in (tmp_path / "fresh").iterdir()
    )


@pytest.mark.parametrize(
    "file", ["bundle.json", "weights.safetensors", "catalogue.parquet", "user_encoder.json"]
)
@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"\x00garbage")])
def test_a_missing_or_damaged_file_is_named(
    saved: Path, file: str, harm: Callable[[Path], None]
) -> None:
    harm(saved / file)
    with pytest.raises(ModelError, match=file) as caught:
        load_bundle(saved)
    assert "metarec run" in caught.value.next_step


def edited(saved: Path, **changes: object) -> Path:
    path = saved / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return saved


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"version": 1}, r"made by another version of metarec \(format version 1\)"),
        ({"version": 99}, "format version 99"),
        ({"format": "pickle"}, "something else"),
        ({"learner": {"name": "oracle", "config": {}}}, "oracle"),
        ({"learner": {"name": "bias", "config": {"sweeps": -1}}}, "sweeps"),
        ({"learner": {"name": "popularity", "config": {}}}, "KeyError"),
        ({"files": []}, "file list"),
        ({"scale": {"feedback": "applause"}}, "applause"),
    ],
)
def test_a_foreign_bundle_is_refused(saved: Path, changes: dict, found: str) -> None:
    with pytest.raises(ModelError, match=found):
        load_bundle(edited(saved, **changes))


@pytest.mark.parametrize("name", sorted(LEARNERS))
@pytest.mark.parametrize("change", ["renamed", "more"])
def test_tensors_of_another_version_are_refused(
    name: str, change: str, bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    save_bundle(bundles[name], tmp_path)
    weights = tmp_path / "weights.safetensors"
    tensors = load_file(weights)
    first = sorted(tensors)[0]
    if change == "renamed":
        tensors[f"{first}_of_old"] = tensors.pop(first)
    else:
        tensors["forgotten"] = tensors[first].clone()
    save_file(tensors, weights)
    files = json.loads((tmp_path / "bundle.json").read_text())["files"]
    edited(tmp_path, files=files | {weights.name: hash_file(weights)})
    with pytest.raises(ModelError, match="made by another version of metarec"):
        load_bundle(tmp_path)


def test_the_split_of_training_is_kept_and_may_be_unknown(
    bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    split = SplitFractions(validation=0.1, test=0.2)
    save_bundle(replace(bundles["bias"], split=split), tmp_path)
    assert load_bundle(tmp_path).split == split
    index = json.loads((tmp_path / "bundle.json").read_text())
    del index["split"]
    (tmp_path / "bundle.json").write_text(json.dumps(index))
    assert load_bundle(tmp_path).split is None


@pytest.fixture
def calibrated(bundles: dict[str, Bundle], tmp_path: Path) -> Path:
    made = RelevanceCalibration(
        basis=Basis.VALUE,
        threshold=3.5,
        low=0.5,
        high=5.5,
        curve=Affine(shift=(0.1,) * len(KNOTS), slope=(1 / 3,) * len(KNOTS)),
        users=94,
        pairs=50_000,
        ece=0.0123456789012345,
    )
    bundle = replace(bundles["bias"], relevance={"personalised": made}, newest=1_700_000_000)
    save_bundle(bundle, tmp_path / "calibrated")
    return tmp_path / "calibrated"


def test_calibration_comes_back_to_the_last_bit(calibrated: Path, tmp_path: Path) -> None:
    loaded = load_bundle(calibrated)
    assert loaded.newest == 1_700_000_000
    assert loaded.relevance["personalised"].curve.slope[0] == 1 / 3
    assert loaded.relevance["personalised"].ece == 0.0123456789012345
    save_bundle(loaded, tmp_path / "again")
    names = {path.name for path in calibrated.iterdir()}
    assert "relevance.json" in names
    for name in names:
        assert (calibrated / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_bundle_without_calibration_replaces_one_that_has_it(
    calibrated: Path, bundles: dict[str, Bundle]
) -> None:
    save_bundle(bundles["bias"], calibrated)
    assert not (calibrated / "relevance.json").exists()
    assert load_bundle(calibrated).relevance == {}


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_text("{}")])
def test_calibration_that_is_missing_or_changed_is_named(
    calibrated: Path, harm: Callable[[Path], None]
) -> None:
    harm(calibrated / "relevance.json")
    with pytest.raises(ModelError, match=r"relevance\.json"):
        load_bundle(calibrated)


def test_calibration_of_another_form_is_refused(calibrated: Path) -> None:
    path = calibrated / "relevance.json"
    path.write_text(path.read_text().replace('"affine"', '"quadratic"'))
    files = json.loads((calibrated / "bundle.json").read_text())["files"]
    edited(calibrated, files=files | {path.name: hash_file(path)})
    with pytest.raises(ModelError, match="quadratic"):
        load_bundle(calibrated)


def test_a_bundle_of_the_format_before_calibration_still_loads(saved: Path) -> None:
    index = json.loads((saved / "bundle.json").read_text())
    del index["newest"]
    (saved / "bundle.json").write_text(json.dumps(index | {"version": 2}))
    loaded = load_bundle(saved)
    assert (loaded.relevance, loaded.newest) == ({}, None)


def test_an_index_without_its_parts_is_refused(saved: Path) -> None:
    index = json.loads((saved / "bundle.json").read_text())
    del index["scale"]
    (saved / "bundle.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="no scale"):
        load_bundle(saved)


def test_no_bundle_at_all(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"bundle\.json"):
        load_bundle(tmp_path / "nowhere")


def test_serving_needs_no_orchestrator(saved: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from metarec_core.serving.bundle import load_bundle\n"
        "from metarec_core.serving.recommender import Recommender\n"
        "import polars as pl\n"
        f"bundle = load_bundle(Path({str(saved)!r}))\n"
        "Recommender(bundle).recommend(pl.DataFrame({'user_id': ['new']}))\n"
        "heavy = {'duckdb', 'mlflow', 'prefect', 'great_expectations', 'pandas', 'matplotlib'}\n"
        "sys.exit(repr(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
