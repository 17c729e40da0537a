from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from metarec_core.config import DatasetConfig
from metarec_core.errors import DatasetError
from metarec_core.home import Home
from metarec_core.ingest.descriptor import DatasetDescriptor, load_descriptor
from metarec_core.ingest.fetch import fetch
from metarec_core.ingest.locate import locate

RATINGS = b"u,i,r\n1,2,3\n"


def wheel_of(directory: Path, content: bytes = RATINGS) -> Path:
    path = directory / "carrier-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("carrier/data/ratings.csv", content)
        archive.writestr("carrier/__init__.py", "raise SystemExit('never imported')")
    return path


def carried(wheel: Path, content: bytes = RATINGS, **changes: object) -> DatasetDescriptor:
    plan = {
        "wheel": "carrier==1.0",
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "root": "carrier/data",
        "files": {"ratings.csv": hashlib.sha256(content).hexdigest()},
    }
    return DatasetDescriptor.model_validate(
        {
            "name": "carried",
            "licence": "none",
            "feedback": "explicit",
            "values": {"minimum": 1, "maximum": 5, "relevant_from": 4},
            "fetch": plan | changes,
            "interactions": {
                "path": "ratings.csv",
                "columns": {"user_id": "u", "item_id": "i", "value": "r"},
            },
        }
    )


def test_fetch_takes_only_the_listed_files_and_is_cached(tmp_path: Path) -> None:
    wheel = wheel_of(tmp_path)
    descriptor, home = carried(wheel), Home(tmp_path / "home")
    root = fetch(descriptor, home, wheel=wheel)
    assert root == home.datasets / "carried"
    assert sorted(path.name for path in root.iterdir()) == ["provenance.json", "ratings.csv"]
    assert (root / "ratings.csv").read_bytes() == RATINGS
    assert locate(descriptor, DatasetConfig(), home) == root
    wheel.unlink()
    assert fetch(descriptor, home, wheel=wheel) == root


def test_fetch_repairs_a_changed_file(tmp_path: Path) -> None:
    wheel = wheel_of(tmp_path)
    descriptor, home = carried(wheel), Home(tmp_path / "home")
    changed = fetch(descriptor, home, wheel=wheel) / "ratings.csv"
    changed.write_text("u,i,r\n")
    fetch(descriptor, home, wheel=wheel)
    assert changed.read_bytes() == RATINGS


def test_a_wrong_wheel_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    wheel = wheel_of(tmp_path)
    home = Home(tmp_path / "home")
    cases = {
        "wheel": carried(wheel, sha256="0" * 64),
        "file ratings.csv": carried(wheel, files={"ratings.csv": "1" * 64}),
        "carrier/elsewhere": carried(wheel, root="carrier/elsewhere"),
    }
    for words, descriptor in cases.items():
        with pytest.raises(DatasetError, match=words):
            fetch(descriptor, home, wheel=wheel)
        assert not (home.datasets / "carried").exists()


def test_a_wheel_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "x.whl"
    wheel.write_bytes(b"no zip")
    with pytest.raises(DatasetError, match="BadZipFile"):
        fetch(carried(wheel), Home(tmp_path / "home"), wheel=wheel)


def test_a_missing_wheel_says_how_to_get_it(tmp_path: Path) -> None:
    descriptor = carried(wheel_of(tmp_path))
    with pytest.raises(DatasetError, match=r"pip download --no-deps carrier==1\.0"):
        fetch(descriptor, Home(tmp_path / "home"), wheel=tmp_path / "absent.whl")


def test_without_an_index_the_way_offline_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    descriptor = carried(wheel_of(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(DatasetError) as caught:
        fetch(descriptor, Home(tmp_path / "home"))
    assert "metarec data fetch carried --wheel FILE" in caught.value.next_step
    assert "No matching distribution" in caught.value.found


def test_pip_downloads_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "carrier-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("carrier/data/ratings.csv", RATINGS)
        archive.writestr(
            "carrier-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n"
        )
        archive.writestr("carrier-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    root = fetch(carried(wheel), Home(tmp_path / "home"))
    assert (root / "ratings.csv").read_bytes() == RATINGS


def test_a_dataset_without_fetch_cannot_be_fetched(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="without 'fetch'"):
        fetch(load_descriptor("ml-latest-small"), Home(tmp_path))


def test_locate_says_what_to_do_when_there_is_no_directory(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with pytest.raises(DatasetError, match="metarec data fetch ml-100k"):
        locate(load_descriptor("ml-100k"), DatasetConfig(), home)
    with pytest.raises(DatasetError, match=r"ratings\.csv, movies\.csv"):
        locate(load_descriptor("ml-latest-small"), DatasetConfig(), home)
    with pytest.raises(DatasetError, match="no such directory"):
        locate(load_descriptor("ml-100k"), DatasetConfig(path=str(tmp_path / "absent")), home)


def test_locate_names_the_missing_file_and_a_near_one(tmp_path: Path) -> None:
    (tmp_path / "rating.csv").touch()
    (tmp_path / "movies.csv").touch()
    with pytest.raises(DatasetError) as caught:
        locate(
            load_descriptor("ml-latest-small"), DatasetConfig(path=str(tmp_path)), Home(tmp_path)
        )
    assert str(tmp_path / "ratings.csv") in caught.value.subject
    assert "movies.csv, rating.csv" in caught.value.found
    assert "did you mean 'rating.csv'" in caught.value.next_step


def test_an_own_descriptor_finds_the_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_bytes(RATINGS)
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nfeedback: implicit\n"
        "interactions: {path: r.csv, columns: {user_id: u, item_id: i}}\n"
    )
    descriptor = load_descriptor(tmp_path / "mine.yaml")
    assert locate(descriptor, DatasetConfig(), Home(tmp_path / "home")) == tmp_path
