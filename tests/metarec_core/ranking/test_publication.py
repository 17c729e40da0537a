"""Readers find whole lists at any moment, and the lake is out of their reach."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from metarec_core.errors import ServiceError
from metarec_core.home import Home
from metarec_core.ranking import publication
from metarec_core.ranking.publication import LISTS, publish, shards_in
from metarec_core.ranking.sinks.base import Stamp
from metarec_core.storage import StageFacts, StageOutput, build_stage

TODAY = date(2026, 3, 4)
SHARD = f"{LISTS}/shard-00000.parquet"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path).ensure()


def stage(home: Home, text: str) -> StageOutput:
    def build(out: Path, _: Path) -> StageFacts:
        (out / LISTS).mkdir()
        (out / SHARD).write_text(text)
        (out / "report.json").write_text("{}")
        return StageFacts(rows_out=1, facts={"scale": "s"})

    return build_stage(home, "recommend", settings=text, build=build)


def put(
    home: Home, text: str, run_date: date, run_id: str = "r1", today: date = TODAY, **more: Any
) -> Path:
    return publish(
        home.lists,
        stage(home, text),
        run_id=run_id,
        run_date=run_date,
        today=today,
        origin={"mlflow_run_id": "m"},
        **more,
    )


def latest(home: Home) -> str:
    return (home.lists / "latest" / SHARD).read_text()


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
    assert set(manifest["files"]) == {SHARD, "report.json"}
    assert shards_in(place / LISTS) == [place / SHARD]
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
    assert (first / SHARD).read_text() == "first"
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
    (place / SHARD).write_text("theirs")
    assert (stage(home, "ours").path / SHARD).read_text() == "ours"


class Recorder:
    """A sink that notes what readers of files see at each of its steps."""

    label = "a notebook"

    def __init__(self, home: Home, fails: str = "") -> None:
        self.home, self.fails = home, fails
        self.steps: list[tuple[str, str]] = []
        self.written: list[str] = []
        self.committed: list[str] = []
        self.stamps: list[Stamp] = []

    @contextmanager
    def replacing(self, shards: Sequence[Path], stamp: Stamp) -> Iterator[int]:
        self._step("write")
        self.written = [shard.read_text() for shard in shards]
        self.stamps.append(stamp)
        yield len(self.written)
        self._step("commit")
        self.committed = self.written

    def _step(self, name: str) -> None:
        self.steps.append((name, latest(self.home)))
        if name == self.fails:
            raise ServiceError("a notebook", found="no pen", wanted="a pen", next_step="buy one")


def test_sinks_are_committed_before_a_link_moves(home: Home) -> None:
    put(home, "old", TODAY)
    sink = Recorder(home)
    place = put(home, "new", TODAY, sinks=[sink], model_version="7")
    assert sink.steps == [("write", "old"), ("commit", "old")]
    assert sink.committed == ["new"]
    manifest = json.loads((place / "manifest.json").read_text())
    assert manifest["sinks"] == ["a notebook"]
    assert sink.stamps == [Stamp(TODAY, "r1", "7", manifest["code_version"])]


@pytest.mark.parametrize("fails", ["write", "commit"])
def test_a_sink_that_fails_publishes_nothing(home: Home, fails: str) -> None:
    put(home, "old", TODAY)
    before = sorted((home.lists / "versions").iterdir())
    first, second = Recorder(home), Recorder(home, fails)
    with pytest.raises(ServiceError, match="no pen"):
        put(home, "new", TODAY, sinks=[first, second])
    assert latest(home) == "old"
    assert sorted((home.lists / "versions").iterdir()) == before
    assert first.committed == []
    second.fails = ""
    put(home, "new", TODAY, sinks=[first, second])
    assert latest(home) == "new"
    assert first.committed == second.committed == ["new"]


def test_a_kill_between_tables_and_links_is_mended_by_the_next_run(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(home, "old", TODAY)
    sink = Recorder(home)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(publication, "point_to", killed)
        with pytest.raises(KeyboardInterrupt):
            put(home, "new", TODAY, sinks=[sink])
    assert (sink.committed, latest(home)) == (["new"], "old")
    put(home, "new", TODAY, sinks=[sink])
    assert (sink.committed, latest(home)) == (["new"], "new")
    assert len(list((home.lists / "versions").iterdir())) == 1
