"""Stages publish whole directories or nothing."""

import json
import os
from pathlib import Path

import pytest

from metarec_core.errors import StorageError
from metarec_core.home import Home
from metarec_core.storage import (
    MANIFEST,
    StageFacts,
    StageOutput,
    build_stage,
    hash_directory,
    point_to,
    prune,
    publishing,
    read_manifest,
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").ensure()


def write(text: str, calls: list[str] | None = None):
    def build(out: Path, scratch: Path) -> StageFacts:
        (out / "data.txt").write_text(text)
        if calls is not None:
            calls.append(text)
        return StageFacts(rows_in=3, rows_out=2, facts={"dropped": 1})

    return build


def test_a_finished_stage_is_found_again_and_not_built_twice(home: Home) -> None:
    calls: list[str] = []
    first = build_stage(home, "clean", settings={"a": 1}, build=write("x", calls))
    second = build_stage(home, "clean", settings={"a": 1}, build=write("x", calls))
    assert calls == ["x"]
    assert (first.reused, second.reused) == (False, True)
    assert first.content_hash == second.content_hash
    assert (second.rows_in, second.rows_out, second.facts) == (3, 2, {"dropped": 1})


@pytest.mark.parametrize(
    "change",
    [{"settings": {"a": 2}}, {"fingerprint": "other"}, {"inputs": "other"}],
    ids=["settings", "fingerprint", "inputs"],
)
def test_whatever_a_stage_depends_on_makes_another_key(home: Home, change: dict) -> None:
    def upstream(text: str) -> StageOutput:
        return build_stage(home, "raw", settings={"text": text}, build=write(text))

    def built(settings: dict, fingerprint: str, inputs: str) -> StageOutput:
        return build_stage(
            home,
            "clean",
            settings=settings,
            fingerprint=fingerprint,
            inputs=[upstream(inputs)],
            build=write("y"),
        )

    base = {"settings": {"a": 1}, "fingerprint": "f", "inputs": "same"}
    assert built(**base).key != built(**(base | change)).key


def test_the_key_follows_content_not_where_it_came_from(home: Home) -> None:
    one = build_stage(home, "raw", settings={"from": "a"}, build=write("same bytes"))
    two = build_stage(home, "raw", settings={"from": "b"}, build=write("same bytes"))
    assert one.key != two.key
    keys = {
        build_stage(home, "clean", settings={}, inputs=[raw], build=write("z")).key
        for raw in (one, two)
    }
    assert len(keys) == 1


def test_a_build_that_fails_leaves_no_output_and_keeps_its_scratch(home: Home) -> None:
    def fails(out: Path, scratch: Path) -> StageFacts:
        scratch.mkdir(parents=True)
        (scratch / "checkpoint").write_text("epoch 3")
        (out / "half").write_text("x")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        build_stage(home, "train", settings={}, build=fails)
    assert not list((home.lake / "train").glob("[!.]*"))
    assert not list((home.lake / "train").glob(".*.partial"))

    def resumes(out: Path, scratch: Path) -> StageFacts:
        (out / "model").write_text((scratch / "checkpoint").read_text())
        return StageFacts()

    output = build_stage(home, "train", settings={}, build=resumes)
    assert (output.path / "model").read_text() == "epoch 3"
    assert not list((home.lake / "train").glob(".*.scratch"))


def test_the_old_directory_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "lists"
    with publishing(target) as directory:
        (directory / "a").write_text("old")

    def fails_half_way() -> None:
        with publishing(target) as directory:
            (directory / "a").write_text("new")
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        fails_half_way()
    assert (target / "a").read_text() == "old"
    with publishing(target) as directory:
        (directory / "a").write_text("new")
    assert (target / "a").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["lists"]


def test_links_move_in_one_step(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        point_to(tmp_path / "latest", tmp_path / name)
        assert (tmp_path / "latest").resolve() == tmp_path / name
    assert not (tmp_path / "latest").readlink().is_absolute()


def test_the_manifest_says_what_is_there(home: Home) -> None:
    output = build_stage(home, "clean", settings={"a": 1}, build=write("x"))
    manifest = read_manifest(output.path)
    assert set(manifest.files) == {"data.txt"}
    assert manifest.content_hash == hash_directory(output.path) == output.content_hash
    assert manifest.code_version.startswith("0.1.0+")


def test_a_damaged_manifest_names_its_file(home: Home) -> None:
    output = build_stage(home, "clean", settings={}, build=write("x"))
    (output.path / MANIFEST).write_text(json.dumps({"stage": "clean"}))
    with pytest.raises(StorageError, match=r"manifest\.json"):
        read_manifest(output.path)


def test_an_unwritable_home_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="METAREC_HOME"):
        Home(tmp_path / "file" / "home").ensure()


@pytest.mark.parametrize("name", ["h[1]", "a%20b", "what?"])
def test_a_home_that_a_tool_would_misread_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StorageError, match="METAREC_HOME"):
        Home(tmp_path / name).ensure()


def test_an_output_that_was_spoilt_is_built_again(home: Home) -> None:
    first = build_stage(home, "clean", settings={}, build=write("whole"))
    (first.path / "data.txt").write_text("who")
    again = build_stage(home, "clean", settings={}, build=write("whole"))
    assert not again.reused
    assert (again.path / "data.txt").read_text() == "whole"
    assert again.content_hash == first.content_hash


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    target = tmp_path / "docs"
    with publishing(target) as directory:
        (directory / "a").write_text("old")
    target.rename(tmp_path / ".docs.old")  # as far as the killed process came

    def fails() -> None:
        with publishing(target):
            raise RuntimeError("again")

    with pytest.raises(RuntimeError, match="again"):
        fails()
    assert (target / "a").read_text() == "old"


def test_pruning_keeps_what_was_used_last(home: Home) -> None:
    outputs = [build_stage(home, "clean", settings={"n": n}, build=write(str(n))) for n in range(4)]
    for age, output in enumerate(outputs):
        os.utime(output.path / MANIFEST, (1_000 + age, 1_000 + age))
    build_stage(home, "clean", settings={"n": 0}, build=write("0"))  # used again
    removed = prune(home, keep=2)
    assert sorted(removed) == sorted(output.path for output in outputs[1:3])
    assert outputs[0].path.is_dir()
    assert outputs[3].path.is_dir()
