"""deployments.yaml means what it says: Prefect passes over a key that it does not know."""

import importlib
import json
import time
import urllib.error
import zoneinfo
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from prefect.cli.deploy._models import (
    ConcurrencyLimitSpec,
    DeploymentConfig,
    PrefectYamlModel,
    RawScheduleConfig,
    WorkPoolConfig,
)
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.steps import set_working_directory
from prefect.flows import Flow
from prefect.utilities.callables import parameter_schema
from pydantic import BaseModel

from flows.services.health import call

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deployments.yaml"
# Anchors that deployments refer to; Prefect never looks at it.
OWN_KEYS = {"definitions"}


def document() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def unknown(keys: Any, model: type[BaseModel]) -> set[str]:
    fields = model.model_fields
    return set(keys) - set(fields) - {field.alias for field in fields.values() if field.alias}


def entries() -> list[Any]:
    return [pytest.param(entry, id=entry["name"]) for entry in document()["deployments"]]


def test_the_deployments_are_there():
    names = [entry["name"] for entry in document()["deployments"]]
    assert names == ["nightly", "train", "recommend", "benchmark", "tune"]


def test_every_key_at_the_top_is_known():
    assert unknown(document(), PrefectYamlModel) == OWN_KEYS
    PrefectYamlModel.model_validate(document())


@pytest.mark.parametrize("entry", entries())
def test_every_key_of_a_deployment_is_known(entry):
    assert unknown(entry, DeploymentConfig) == set()
    assert unknown(entry["work_pool"], WorkPoolConfig) == set()
    assert unknown(entry["concurrency_limit"], ConcurrencyLimitSpec) == set()
    for schedule in entry.get("schedules", ()):
        assert unknown(schedule, RawScheduleConfig) == set()


@pytest.mark.parametrize("entry", entries())
def test_runs_wait_for_each_other_and_parameters_are_checked(entry):
    limit = ConcurrencyLimitConfig.model_validate(entry["concurrency_limit"])
    assert limit.limit == 1
    assert limit.collision_strategy == "ENQUEUE"
    assert entry["enforce_parameter_schema"] is True


def test_the_schedule_is_valid_and_only_the_night_has_one():
    scheduled = {
        entry["name"]: entry["schedules"]
        for entry in document()["deployments"]
        if "schedules" in entry
    }
    assert list(scheduled) == ["nightly"]
    (schedule,) = scheduled["nightly"]
    parsed = CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
    assert parsed.cron == "0 2 * * *"
    assert schedule["timezone"] in zoneinfo.available_timezones()
    assert schedule["active"] is True


def test_the_pull_step_exists_and_names_no_fixed_place():
    (step,) = document()["pull"]
    ((name, inputs),) = step.items()
    assert name == f"{set_working_directory.__module__.rpartition('.')[0]}.set_working_directory"
    assert inputs == {"directory": "{{ $METAREC_ROOT }}"}


@pytest.mark.parametrize("entry", entries())
def test_entrypoints_lead_to_flows_with_a_schema(entry):
    path, _, name = entry["entrypoint"].partition(":")
    assert (ROOT / path).is_file()
    flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
    assert isinstance(flow, Flow)
    assert flow.name == entry["name"]
    assert "config" in parameter_schema(flow).properties


@pytest.mark.slow
@pytest.mark.e2e
def test_the_deployed_cron_yields_scheduled_runs(stack):
    # With SQLAlchemy 2.1 the server starts, manual runs work, and this never happens.
    wanted = {
        "deployments": {"name": {"any_": ["nightly"]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
    }
    deadline = time.monotonic() + 60
    while not (runs := call(f"{stack.api}/flow_runs/filter", wanted)):
        assert time.monotonic() < deadline, "no run was scheduled within a minute"
        time.sleep(1)
    assert all(run["auto_scheduled"] for run in runs)
    starts = [datetime.fromisoformat(run["expected_start_time"]) for run in runs]
    assert {(start.hour, start.minute) for start in starts} == {(2, 0)}
    assert len(starts) >= 3


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize("name", ["nightly", "train", "recommend", "benchmark", "tune"])
def test_the_api_refuses_a_parameter_out_of_bounds(stack, name):
    deployment = call(f"{stack.api}/deployments/name/{name}/{name}")
    parameters = {"config": {"recommend": {"k": 0}}}
    with pytest.raises(urllib.error.HTTPError) as refusal:
        call(
            f"{stack.api}/deployments/{deployment['id']}/create_flow_run",
            {"parameters": parameters},
        )
    assert refusal.value.code == 409
    assert "recommend.k" in refusal.value.read().decode()


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_a_run_that_the_api_asks_for_is_completed_by_the_worker(stack, own_dataset):
    deployment = call(f"{stack.api}/deployments/name/nightly/nightly")["id"]
    config = {
        "dataset": {"name": str(own_dataset.descriptor)},
        "learners": {"gaussian": {"loop": {"epochs": 2}}},
        "training": {"threads": 1},
        "recommend": {"k": 4},
    }
    asked = call(
        f"{stack.api}/deployments/{deployment}/create_flow_run",
        {"parameters": {"config": config, "run_date": "2026-03-02"}},
    )
    run, deadline = asked, time.monotonic() + 420
    while run["state_type"] in {"SCHEDULED", "PENDING", "RUNNING"}:
        assert time.monotonic() < deadline, f"still {run['state_name']} after seven minutes"
        time.sleep(1)
        run = call(f"{stack.api}/flow_runs/{asked['id']}")
    assert run["state_type"] == "COMPLETED", run["state"]["message"]

    tasks = call(f"{stack.api}/task_runs/filter", {"flow_runs": {"id": {"any_": [asked["id"]]}}})
    assert {task["state_type"] for task in tasks} == {"COMPLETED"}
    assert {"ingest", "validate", "clean", "meta-train", "gate", "recommend"} <= {
        task["name"].rpartition("-")[0] for task in tasks
    }
    artifacts = call(
        f"{stack.api}/artifacts/filter", {"flow_runs": {"id": {"any_": [asked["id"]]}}}
    )
    assert {"summary", "mlflow-run"} <= {artifact["key"] for artifact in artifacts}

    published = stack.home.lists / "run_date=2026-03-02"
    manifest = json.loads((published / "manifest.json").read_text())
    assert asked["id"] in manifest["prefect_flow_run"]
    lists = pl.read_parquet(published / "recommendations.parquet", hive_partitioning=False)
    assert lists["user_id"].n_unique() == 220
    assert lists["rank"].max() == 4
