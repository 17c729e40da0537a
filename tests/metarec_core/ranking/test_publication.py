"""Readers find whole lists at any moment, and the lake is out of their reach."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from metarec_core.home import Home
from metarec_core.ranking import publication
from metarec_core.ranking.publication import LISTS, publish
from metarec_core.storage import StageFacts, StageOutput, build_stage

TODAY = date(2026, 3, 4)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path).ensure()


def stage(home: Home, text: str) -> StageOutput:
    def build(out: Path, _: Path) -> StageFacts:
        (out / LISTS).write_text(text)
        (out / "report.json").write_text("{}")
        return StageFacts(rows_out=1, facts={"scale": "s"})

    return build_stage(home, "recommend", settings=text, build=build)


def put(home: Home, text: str, run_date: date, run_id: str = "r1", today: date = TODAY) -> Path:
    return publish(
        home.lists,
        stage(home, text),
        run_id=run_id,
        run_date=run_date,
        today=today,
        origin={"mlflow_run_id": "m"},
    )


def latest(home: Home) -> str:
    return (home.lists / "latest" / LISTS).read_text()


def test_lists_are_found_by_date_and_as_the_latest(home: Home) -> None:
    place = put(home, "monday", date(2026, 3, 2))
    assert place == home.lists / "run_date=2026-03-02"
    assert sorted(path.name for path in place.iterdir()) == [
        "manifest.json",
        LISTS,
        "report.json",
    ]
    manifest = json.loads((place / "manifest.json").read_text())
    assert (manifest["run_id"], manifest["mlflow_run_id"]) == ("r1", "m")
    assert (manifest["run_date"], manifest["facts"]) == ("2026-03-02", {"scale": "s"})
    assert latest(home) == "monday"


def test_an_older_date_is_filled_in_behind(home: Home) -> None:
    put(home, "tuesday", date(2026, 3, 3))
    put(home, "monday", date(2026, 3, 2))
    assert latest(home) == "tuesday"


def test_a_mistaken_date_does_not_freeze_the_latest(home: Home) -> None:
    put(home, "mistake", date(2062, 3, 2))
    assert latest(home) == "mistake"  # better than nothing
    put(home, "tuesday", date(2026, 3, 3))
    assert latest(home) == "tuesday"
    put(home, "today", TODAY)
    put(home, "another mistake", date(2026, 4, 3))
    assert latest(home) == "today"
    # Its day has come.
    put(home, "monday", date(2026, 3, 2), today=date(2026, 4, 3))
    assert latest(home) == "another mistake"


def test_a_run_that_is_tried_again_replaces_links_only(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = put(home, "first", TODAY)
    first = place.resolve()
    kept = publication._sweep
    monkeypatch.setattr(publication, "_sweep", lambda lists: None)
    put(home, "second", TODAY)
    put(home, "second", TODAY)
    assert first.is_dir()
    assert (first / LISTS).read_text() == "first"
    assert len(list((home.lists / "versions").iterdir())) == 3
    monkeypatch.setattr(publication, "_sweep", kept)
    put(home, "third", TODAY)
    assert latest(home) == "third"
    assert [path.resolve() for path in (home.lists / "versions").iterdir()] == [place.resolve()]


@pytest.mark.parametrize("step", ["publishing", "point_to", "_latest", "_sweep"])
def test_a_kill_at_any_step_leaves_whole_lists(
    home: Home, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    put(home, "before", TODAY)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(publication, step, killed)
        with pytest.raises(KeyboardInterrupt):
            put(home, "after", TODAY)
    assert latest(home) in {"before", "after"}
    put(home, "after", TODAY)
    assert latest(home) == "after"


def test_what_readers_do_does_not_reach_the_lake(home: Home) -> None:
    place = put(home, "ours", TODAY)
    (place / LISTS).write_text("theirs")
    assert (stage(home, "ours").path / LISTS).read_text() == "ours"
