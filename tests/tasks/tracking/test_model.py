from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.models import get_model_info
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc.scoring_server import predictions_to_json

from metarec_core.config import Config
from metarec_core.errors import ConfigError, ModelError
from tasks.tracking import (
    ChampionRef,
    TrackingStore,
    champion,
    night_run,
    promote,
    register_challenger,
)
from tasks.tracking.interface import SERVING_DISTRIBUTIONS

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def registered(store: TrackingStore, other_bundles: dict[str, Path]) -> dict[str, ChampionRef]:
    with night_run(store, config=Config(), run_date=date(2026, 11, 24)) as night:
        return {
            name: register_challenger(
                store,
                directory,
                run_id=night.run_id,
                learner=name,
                stage_key="key",
                run_date=date(2026, 11, 24),
                metrics={},
            )
            for name, directory in other_bundles.items()
        }


@pytest.fixture(scope="module")
def model(registered: dict[str, ChampionRef]) -> PyFuncModel:
    return load(registered["bias"])


def load(ref: ChampionRef) -> PyFuncModel:
    path = list(sys.path)
    try:
        return mlflow.pyfunc.load_model(ref.uri)
    finally:
        sys.path[:] = path


def ratings(*rows: tuple[Any, ...]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["user_id", "item_id", "rating"])


def test_rows_are_ranked_and_explained(model: PyFuncModel) -> None:
    answer = model.predict(ratings(("x", "3", 5.0), ("x", "4", 1.0), ("y", "5", 2.0)))
    assert list(answer.columns) == [
        "user_id",
        "rank",
        "item_id",
        "title",
        "score",
        "rating",
        "sd",
        "p_relevant",
        "segment",
        "support_size",
        "reasons",
        "rule_flags",
        "ignored",
    ]
    assert answer["user_id"].tolist() == ["x"] * 10 + ["y"] * 10
    assert answer["rank"].tolist() == [*range(1, 11)] * 2
    assert not {"3", "4"} & set(answer.loc[answer["user_id"] == "x", "item_id"])
    assert answer["sd"].gt(0).all()
    for row in answer.to_dict(orient="records"):
        assert math.isclose(sum(part["share"] for part in row["reasons"]), row["score"])
        assert row["title"] == f"Film {row['item_id']}"


def test_ids_may_be_numbers_or_strings(model: PyFuncModel) -> None:
    text = model.predict(ratings(("7", "3", 5.0), ("7", "4", 1.0)))
    whole = model.predict(ratings((7, 3, 5), (7, 4, 1)))
    pd.testing.assert_frame_equal(text, whole)


def test_numbers_beside_a_missing_id_stay_whole(model: PyFuncModel) -> None:
    # pandas turns the column into 3.0, 4.0, NaN.
    mixed = model.predict(ratings((7, 3, 5), (7, 4, 1), (8, None, None)))
    alone = model.predict(ratings((7, 3, 5), (7, 4, 1)))
    assert mixed["user_id"].unique().tolist() == ["7", "8"]
    assert mixed["ignored"].isna().all()
    assert mixed["item_id"].tolist()[:10] == alone["item_id"].tolist()


def test_features_alone_are_served_from_the_prior(model: PyFuncModel) -> None:
    answer = model.predict(pd.DataFrame({"user_id": ["new"], "age": [31], "job": ["judge"]}), {})
    assert len(answer) == 10
    assert set(answer["support_size"]) == {0}
    with_ids = model.predict(
        pd.DataFrame(
            {
                "user_id": ["new", "old"],
                "item_id": [None, "4"],
                "rating": [None, 4.0],
                "age": [31, None],
                "job": ["judge", None],
            }
        )
    )
    assert with_ids["item_id"].tolist()[:10] == answer["item_id"].tolist()


def test_parameters_shape_the_lists(model: PyFuncModel) -> None:
    frame = ratings(("x", "3", 5.0))
    best = model.predict(frame)["item_id"].tolist()
    assert model.predict(frame, {"k": 3})["item_id"].tolist() == best[:3]
    assert model.predict(frame, {"k": 9, "exclude": best[:1]})["item_id"].tolist() == best[1:]
    few = model.predict(frame, {"candidates": ["9", "3", "8"]})
    assert sorted(few["item_id"]) == ["8", "9"]
    short = model.predict(frame, {"reasons": 0})["reasons"][0]
    assert "support" not in {part["kind"] for part in short}
    with pytest.raises(ConfigError, match="parameter k"):
        model.predict(frame, {"k": 0})


def test_similar_items_and_users_are_other_tasks(
    model: PyFuncModel, registered: dict[str, ChampionRef]
) -> None:
    items = pd.DataFrame({"item_id": ["3", "4", "no such"]})
    with pytest.raises(ModelError, match="neither vectors nor named features"):
        load(registered["popularity"]).predict(items, {"task": "similar_items"})
    users = ratings(("x", "3", 5.0), ("x", "4", 1.0), ("y", "5", 2.0), ("z", "3", 4.0))
    found = model.predict(users, {"task": "similar_users", "k": 2})
    assert list(found.columns) == ["user_id", "rank", "similar_user_id", "similarity"]
    assert found["user_id"].tolist() == ["x", "x", "y", "y", "z", "z"]
    assert (found["user_id"] != found["similar_user_id"]).all()
    with pytest.raises(ConfigError, match="parameter task"):
        model.predict(users, {"task": "dance"})
    with pytest.raises(ModelError, match="no column 'user_id'"):
        model.predict(items, {})


def test_what_cannot_be_used_is_reported(model: PyFuncModel) -> None:
    answer = model.predict(ratings(("x", "3", 5.0), ("x", "none such", 4.0), ("y", "4", 4.0)))
    notes = answer.groupby("user_id")["ignored"].first()
    assert "unknown item" in notes["x"]
    assert pd.isna(notes.get("y"))
    (row,) = answer.attrs["ignored"]
    assert (row["row"], row["user_id"], row["item_id"]) == (1, "x", "none such")


@pytest.mark.parametrize("name", ["bias", "popularity"])
def test_answers_are_strict_json(
    registered: dict[str, ChampionRef], name: str, tmp_path: Path
) -> None:
    answer = load(registered[name]).predict(ratings(("x", "3", 5.0), ("y", None, None)))
    file = tmp_path / "answer.json"
    with file.open("w") as stream:
        predictions_to_json(answer, stream)

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is not JSON")

    rows = json.loads(file.read_text(), parse_constant=refuse)["predictions"]
    assert rows[0]["rank"] == 1
    assert rows[0]["reasons"][0]["kind"] == "item"
    assert (rows[0]["rating"] is None) == (name == "popularity")


def test_the_signature_names_columns_and_parameters(registered: dict[str, ChampionRef]) -> None:
    info = get_model_info(registered["bias"].uri)
    inputs = {column.name: column.required for column in info.signature.inputs}
    assert inputs == {
        "user_id": False,
        "item_id": False,
        "rating": False,
        "age": False,
        "job": False,
    }
    params = {param.name: param.default for param in info.signature.params}
    assert params == {
        "k": 10,
        "exclude": [],
        "candidates": [],
        "reasons": 3,
        "mode": "personalised",
        "task": "recommend",
    }
    assert info.saved_input_example_info is not None


def test_files_hold_no_pickle(store: TrackingStore, registered: dict[str, ChampionRef]) -> None:
    path = Path(mlflow.artifacts.download_artifacts(registered["bias"].uri))
    names = [file.name for file in path.rglob("*")]
    assert "model.py" in names
    assert "MLmodel" in names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".pth"))]
    assert "__pycache__" not in names


@pytest.mark.slow
def test_a_stranger_needs_only_the_stated_requirements(
    store: TrackingStore, registered: dict[str, ChampionRef], tmp_path: Path
) -> None:
    ref = promote(store, registered["bias"].version, over=champion(store))
    file = mlflow.pyfunc.get_model_dependencies(ref.uri)
    stated = Path(file).read_text().split()
    assert [line.partition("==")[0] for line in stated] == list(SERVING_DISTRIBUTIONS)
    request = {
        "rows": [{"user_id": 1, "item_id": item, "rating": 4} for item in (1, 2, 3, 4)],
        "params": {"k": 5},
        "requirements": stated,
    }
    environment = {**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    command = [
        sys.executable,
        "-I",
        str(Path(__file__).with_name("only_requirements.py")),
        store.uri,
        "models:/metarec@champion",
        str(ROOT),
    ]
    done = subprocess.run(
        command,
        input=json.dumps(request),
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert [row["rank"] for row in answer["rows"]] == [1, 2, 3, 4, 5]
    assert answer["strangers"] == []
    assert answer["pickle"] == "false"
    assert Path(answer["cwd"]) == tmp_path
    assert not Path(answer["code"]).is_relative_to(ROOT)
