"""A study in a night: its files, its runs in MLflow, and what a later run finds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from prefect.logging import disable_run_logger

from metarec_core.config import load_config
from tasks import tune as module
from tasks.tune import DOCUMENT, HISTORY, REPORT, TABLE, WINNER, tune_learner


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is shown among Prefect's artifacts: there is no server here."""
    shown: list[str] = []
    monkeypatch.setattr(module, "create_markdown_artifact", lambda text, **_: shown.append(text))
    return shown


def test_a_study_leaves_a_report_a_winner_and_nested_runs(
    prepared, tmp_path: Path, told: list[str]
) -> None:
    night = replace(prepared.night, outputs={})
    night.record_paths(summary=str(tmp_path / "summary.md"))

    def run(trials: int):
        tune = {"learner": "bias", "metric": "mae", "trials": trials}
        night.config = prepared.night.config.changed({"tune": tune})
        with disable_run_logger():
            return tune_learner.fn(night, prepared.features, prepared.episodes)

    first = run(2)
    assert {DOCUMENT, TABLE, REPORT, HISTORY, WINNER} <= {
        file.name for file in first.path.iterdir()
    }
    assert (first.path / HISTORY).read_bytes().startswith(b"\x89PNG")
    found = json.loads((first.path / DOCUMENT).read_text())
    winner = load_config(first.path / WINNER)
    assert winner.learners.bias.item_shrinkage == found["best"]["values"]["item_shrinkage"]
    assert winner.dataset == night.config.dataset
    assert night.status.paths.winner == str(first.path / WINNER)
    assert "metarec run --config" in told[0]
    assert (tmp_path / "summary.md").read_text() == told[0]

    more = run(4)
    again = run(4)
    assert not more.reused
    trials = json.loads((more.path / DOCUMENT).read_text())["trials"]
    assert trials[:2] == found["trials"]
    assert len(trials) == 4
    assert json.loads((again.path / DOCUMENT).read_text())["trials"] == trials
    assert run(4).reused

    client = night.store.client
    runs = client.search_runs([night.store.experiment_id], "tags.kind = 'trial'", max_results=50)
    assert sorted(one.info.run_name for one in runs) == [f"trial-00{place}" for place in range(4)]
    for one in runs:
        parent = client.get_run(one.data.tags["mlflow.parentRunId"])
        assert parent.data.tags["stage"] == "tune"
        assert parent.data.tags["mlflow.parentRunId"] == night.tracked.run_id
        assert one.info.status == "FINISHED"
        assert one.data.tags["trial"] == "completed"
        place = int(one.info.run_name[-3:])
        assert one.data.metrics["mae"] == pytest.approx(trials[place]["score"])
        shrinkage = float(one.data.params["item_shrinkage"])
        assert shrinkage == pytest.approx(trials[place]["values"]["item_shrinkage"])
    names = {file.path for file in client.list_artifacts(runs[0].data.tags["mlflow.parentRunId"])}
    assert {HISTORY, WINNER, REPORT} <= names
