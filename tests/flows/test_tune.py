"""Tuning as a flow: on a team's own tables, beside nights, promoting and publishing nothing."""

import json
from datetime import date
from pathlib import Path

import pytest

from metarec_core.config import load_config
from metarec_core.home import Home


@pytest.mark.slow
def test_a_network_is_tuned_and_the_winner_is_a_configuration(
    prefect: None, own_dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.tune import tune
    from tasks.tracking import champion, open_store

    home = Home(tmp_path / "home")
    monkeypatch.setenv("METAREC_HOME", str(home.root))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = load_config(
        None,
        [
            f"dataset.name={own_dataset.descriptor}",
            "training.threads=1",
            "cleaning.threads=1",
            "tune.learner=amortised",
            "tune.trials=3",
            "learners.amortised.dim=64",
            "learners.amortised.hidden=16",
            "learners.amortised.loop.epochs=2",
        ],
    )
    status = tune(config, date(2026, 3, 2))
    assert status.state == "completed"
    assert status.stages[-1].name == "tune"
    assert status.stages[-1].rows_out == 3
    found = json.loads((Path(status.paths.tuning) / "tuning.json").read_text())
    assert found["best"]["epochs"] == 2
    assert 0.0 < found["best"]["score"] < 1.0
    winner = load_config(Path(status.paths.winner))
    section = winner.learners.amortised
    assert section.loop.weight_decay == found["best"]["values"]["loop.weight_decay"]
    assert section.dim == found["best"]["values"]["dim"]
    assert section.hidden == 16
    assert champion(open_store(home)) is None
    assert not (home.lists / "latest").exists()
    assert len(list(home.tuning.glob("*/study.db"))) == 1

    store = open_store(home)
    runs = store.client.search_runs([store.experiment_id], "tags.kind = 'trial'")
    history = store.client.get_metric_history(runs[0].info.run_id, "loss")
    assert [point.step for point in history] == [1, 2]
