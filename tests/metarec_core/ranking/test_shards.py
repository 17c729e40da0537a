"""Shards are whole or not there, found again after a kill, and the same whoever wrote them how."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metarec_core.errors import ConfigError, StorageError
from metarec_core.ranking import shards, stream
from metarec_core.ranking.shards import ShardFact, hand_over, shard_ranges, write_shards
from metarec_core.ranking.stream import write_stream
from metarec_core.storage import hash_file, hash_files

ROOT = Path(__file__).resolve().parents[3]
USERS, SHARD_USERS, LISTED = 23, 5, 3
NAMES = [f"shard-{index:05d}" for index in range(5)]


def lists(start: int, stop: int) -> pl.DataFrame:
    """Three rows a user, nested ones among them."""
    users = [user for user in range(start, stop) for _ in range(LISTED)]
    ranks = [rank for _ in range(start, stop) for rank in range(1, LISTED + 1)]
    return pl.DataFrame(
        {
            "user_id": [f"u{user}" for user in users],
            "rank": ranks,
            "score": [user / rank for user, rank in zip(users, ranks, strict=True)],
            "reasons": [
                [{"kind": "item", "share": float(part)} for part in range(user % 4)]
                for user in users
            ],
        },
        schema={
            "user_id": pl.String,
            "rank": pl.Int32,
            "score": pl.Float64,
            "reasons": pl.List(pl.Struct({"kind": pl.String, "share": pl.Float64})),
        },
    )


def by_tile(tile: int) -> Callable[[int, int], Iterator[pl.DataFrame]]:
    def make(start: int, stop: int) -> Iterator[pl.DataFrame]:
        for first in range(start, max(stop, start + 1), tile):
            yield lists(first, min(first + tile, stop))

    return make


class Watched:
    """A maker that notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, start: int, stop: int) -> Iterator[pl.DataFrame]:
        self.asked.append(start)
        yield lists(start, stop)


def write(directory: Path, make: Callable[..., Iterator[pl.DataFrame]], **changes) -> list:
    return write_shards(directory, USERS, SHARD_USERS, make, **{"key": "k", **changes})


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups that a few users fill."""
    monkeypatch.setattr(stream, "ROW_GROUP", 7)


def test_every_user_lies_in_one_shard(tmp_path: Path) -> None:
    facts = write(tmp_path, by_tile(2))
    assert [(fact.start, fact.stop) for fact in facts] == shard_ranges(USERS, SHARD_USERS)
    assert [fact.path.stem for fact in facts] == NAMES
    assert sum(fact.rows for fact in facts) == LISTED * USERS
    assert not any(fact.reused for fact in facts)
    for fact in facts:
        assert fact.sha256 == hash_file(fact.path)
        assert pl.read_parquet(fact.path).equals(lists(fact.start, fact.stop))


@settings(max_examples=40, deadline=None)
@given(n_users=st.integers(0, 60), shard_users=st.integers(1, 70))
def test_ranges_cut_the_users_without_gap_or_overlap(n_users: int, shard_users: int) -> None:
    ranges = shard_ranges(n_users, shard_users)
    assert [user for start, stop in ranges for user in range(start, stop)] == list(range(n_users))
    assert all(0 < stop - start <= shard_users for start, stop in ranges) or not n_users


def test_a_shard_without_users_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="shard_users: found 0"):
        write_shards(tmp_path, USERS, 0, by_tile(1), key="k")


def test_no_users_make_one_shard_that_has_the_columns(tmp_path: Path) -> None:
    (fact,) = write_shards(tmp_path, 0, 5, by_tile(2), key="k")
    assert fact.rows == 0
    assert pl.read_parquet(fact.path).schema == lists(0, 1).schema


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, USERS), max_size=8), group=st.integers(1, 40))
def test_bytes_do_not_depend_on_how_the_rows_were_cut(
    cuts: list[int], group: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("cuts")
    bounds = [0, *sorted(cuts), USERS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "ROW_GROUP", group)
        write_stream(place / "whole", [lists(0, USERS)])
        pieces = (lists(*pair) for pair in pairwise(bounds))
        # Frames that share one buffer, too: a slice does not bring what lies beside it.
        whole = lists(0, USERS)
        slices = [whole[a * LISTED : b * LISTED] for a, b in pairwise(bounds)]
        write_stream(place / "pieces", pieces)
        write_stream(place / "slices", slices)
    contents = {(place / name).read_bytes() for name in ("whole", "pieces", "slices")}
    assert len(contents) == 1
    groups = pq.ParquetFile(place / "whole").metadata
    rows = LISTED * USERS
    sizes = [groups.row_group(place).num_rows for place in range(groups.num_row_groups)]
    assert sizes == [group] * (rows // group) + [rows % group] * (rows % group > 0)


def test_memory_holds_no_more_than_a_row_group(tmp_path: Path, small_groups: None) -> None:
    target = tmp_path / "file"
    written: list[int] = []

    def tables() -> Iterator[pl.DataFrame]:
        for user in range(200):
            yield lists(user, user + 1)
            written.append(target.stat().st_size if target.exists() else 0)

    write_stream(target, tables())
    assert len(written) == 200
    # The file grows while rows come in, instead of at the end.
    assert len(set(written)) > 50


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_and_tiles_do_not_change_a_byte(tmp_path: Path, workers: int) -> None:
    write(tmp_path / "one", by_tile(100))
    write(tmp_path / "other", by_tile(workers), workers=workers)
    assert hash_files(tmp_path / "one") == hash_files(tmp_path / "other")


def test_workers_work_at_the_same_time(tmp_path: Path) -> None:
    met = threading.Barrier(2, timeout=20)

    def make(start: int, stop: int) -> Iterator[pl.DataFrame]:
        met.wait()  # breaks unless two shards are in progress at once
        yield lists(start, stop)

    facts = write_shards(tmp_path, 20, 5, make, key="k", workers=2)
    assert len(facts) == 4


def test_whole_shards_of_the_same_key_are_kept(tmp_path: Path) -> None:
    first = write(tmp_path, by_tile(2))
    watched, said = Watched(), list[ShardFact]()
    (tmp_path / "shard-00001.parquet").unlink()
    (tmp_path / "shard-00003.json").unlink()
    again = write(tmp_path, watched, progress=said.append)
    assert watched.asked == [5, 15]
    assert [fact.reused for fact in again] == [True, False, True, False, True]
    assert [fact.sha256 for fact in again] == [fact.sha256 for fact in first]
    assert [fact.start for fact in said] == [0, 10, 20, 5, 15]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda place: os.truncate(place / "shard-00002.parquet", 100),
        lambda place: (place / "shard-00002.parquet").write_bytes(b"x"),
        lambda place: (place / "shard-00002.json").write_text("{"),
        lambda place: (place / "shard-00002.json").write_text(
            (place / "shard-00001.json").read_text()
        ),
        lambda place: (place / ".shard-00007.parquet.partial").write_bytes(b"half"),
        lambda place: (place / "shard-00009.parquet").write_bytes(b"left over"),
    ],
    ids=["truncated", "other bytes", "torn ledger", "another's ledger", "half", "beyond the end"],
)
def test_what_is_not_whole_is_made_again(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    write(tmp_path, by_tile(2))
    wanted = hash_files(tmp_path)
    spoil(tmp_path)
    write(tmp_path, by_tile(2))
    assert hash_files(tmp_path) == wanted


@pytest.mark.parametrize("changes", [{"key": "other"}, {"shard_users": 6}, {"n_users": 24}])
def test_what_was_made_from_something_else_is_discarded(tmp_path: Path, changes: dict) -> None:
    write(tmp_path, by_tile(2))
    watched = Watched()
    cut = {"n_users": USERS, "shard_users": SHARD_USERS, "key": "k", **changes}
    write_shards(tmp_path, make=watched, **cut)
    kept = {0, 5, 10, 15} if "n_users" in changes else set()
    ranges = shard_ranges(cut["n_users"], cut["shard_users"])
    assert set(watched.asked) == {start for start, _ in ranges} - kept
    rows = pl.read_parquet(tmp_path / "*.parquet")
    assert rows.equals(lists(0, cut["n_users"]))


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_leaves_whole_shards_and_no_half(tmp_path: Path, workers: int) -> None:
    def make(start: int, stop: int) -> Iterator[pl.DataFrame]:
        yield lists(start, stop)
        if start == 10:
            raise MemoryError("too much")

    with pytest.raises(MemoryError):
        write(tmp_path, make, workers=workers)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"shard-00000.parquet", "shard-00000.json"} <= names
    assert not [name for name in names if "00002" in name or "partial" in name]
    write(tmp_path, by_tile(2))
    write(tmp_path / "anew", by_tile(2))
    assert hash_files(tmp_path / "anew").items() <= hash_files(tmp_path).items()


def test_a_maker_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no table"):
        write(tmp_path, lambda start, stop: iter(()))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards, "write_stream", full)
    with pytest.raises(StorageError, match=r"No space left.*free disk space.*whole shards"):
        write(tmp_path, by_tile(2))


KILLED = """
import runpy, sys, time
from pathlib import Path

root, tests, place, stop_at, workers = sys.argv[1:]
sys.path.insert(0, root)
from metarec_core.ranking import stream
from metarec_core.ranking.shards import write_shards

lists = runpy.run_path(tests)["lists"]
stream.ROW_GROUP = 7

def make(start, stop):
    for user in range(start, stop):
        if user == int(stop_at):
            print("here", flush=True)
            time.sleep(60)
        yield lists(user, user + 1)

write_shards(Path(place), 23, 5, make, key="k", workers=int(workers))
"""


@pytest.mark.parametrize(("stop_at", "workers", "whole"), [(3, 1, 0), (14, 1, 2), (19, 2, None)])
def test_a_kill_in_the_middle_of_a_shard_costs_that_shard(
    tmp_path: Path, small_groups: None, stop_at: int, workers: int, whole: int | None
) -> None:
    place = tmp_path / "shards"
    words = [str(ROOT), __file__, str(place), str(stop_at), str(workers)]
    child = subprocess.Popen([sys.executable, "-c", KILLED, *words], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"here\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    half = place / f".shard-{stop_at // SHARD_USERS:05d}.parquet.partial"
    assert half.stat().st_size > 0
    ledgers = list(place.glob("*.json"))
    assert len(ledgers) == whole or whole is None
    watched = Watched()
    facts = write(place, watched)
    assert sum(fact.reused for fact in facts) == len(ledgers)
    assert len(watched.asked) == 5 - len(ledgers)
    write(tmp_path / "uninterrupted", by_tile(23))
    assert hash_files(place) == hash_files(tmp_path / "uninterrupted")


def test_what_is_handed_over_has_no_ledger_and_stays_where_it_was(tmp_path: Path) -> None:
    facts = write(tmp_path / "shards", by_tile(2))
    hand_over(facts, tmp_path / "out" / "lists")
    assert {path.name for path in (tmp_path / "out" / "lists").iterdir()} == {
        f"{name}.parquet" for name in NAMES
    }
    assert pl.read_parquet(tmp_path / "out" / "lists").equals(lists(0, USERS))
    # Killed before it is published: nothing has to be made again.
    assert all(fact.reused for fact in write(tmp_path / "shards", by_tile(2)))


def test_file_systems_without_links_get_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    facts = write(tmp_path / "shards", by_tile(2))
    hand_over(facts, tmp_path / "lists")
    assert pl.read_parquet(tmp_path / "lists").equals(lists(0, USERS))
    with pytest.raises(StorageError, match="FileExistsError"):
        hand_over(facts, tmp_path / "lists")
