from __future__ import annotations

import json
from datetime import date

import mlflow.data

from metarec_core.config import Config
from metarec_core.storage import StageOutput, read_manifest
from tasks.tracking import Context, TrackingStore, night_run


def test_a_run_names_the_data_it_read(store: TrackingStore, stage: StageOutput) -> None:
    with night_run(store, config=Config(), run_date=date(2026, 11, 24)) as run:
        run.log_dataset(stage, name="toy", context=Context.TRAINING, table="interactions.parquet")
        run.log_dataset(stage, name="toy stage", context=Context.EVALUATION)
    inputs = store.client.get_run(run.run_id).inputs.dataset_inputs
    by_name = {entry.dataset.name: entry for entry in inputs}
    table, whole = by_name["toy"], by_name["toy stage"]

    assert {tag.key: tag.value for tag in table.tags} == {"mlflow.data.context": "training"}
    assert {tag.key: tag.value for tag in whole.tags} == {"mlflow.data.context": "evaluation"}

    digest = read_manifest(stage.path).files["interactions.parquet"]
    assert table.dataset.digest == digest[:16]
    assert whole.dataset.digest == stage.content_hash[:16]
    profile = json.loads(table.dataset.profile)
    assert profile["content_hash"] == digest
    assert profile["rows"] == 3
    columns = json.loads(table.dataset.schema)["mlflow_colspec"]
    assert [column["name"] for column in columns] == ["user_id", "value", "genres"]
    assert columns[1]["type"] == "double"

    source = mlflow.data.get_source(table)
    assert source.load() == str(stage.path / "interactions.parquet")
