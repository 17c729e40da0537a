"""Lists as Parquet shards, each of which is finished once and survives a kill of the others.

A night cuts its users into ranges of ``shard_users``. The lists of a range are one file, written to
a temporary name, flushed to the disk and renamed when whole; only then does its ledger appear, a
small JSON file with the rows, the hash and the key. Whoever is killed, and when: a file with a
matching ledger is whole and is kept, everything else is removed and made again. Files depend on the
rows alone, not on how many tables they came in or how many workers wrote them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path

import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from metarec_core.errors import ConfigError, StorageError
from metarec_core.ranking.stream import write_stream
from metarec_core.storage import hash_file

_SHARD = "shard-{:05d}.parquet"
_LEDGER = ".json"
_PARTIAL = ".partial"

Tables = Iterator[pa.Table | pl.DataFrame]
Make = Callable[[int, int], Tables]
"""Lists of the users ``start`` up to ``stop``, in order, as tables of one schema; at least one
table, if only an empty one. With several workers it is called from several threads."""


class ShardFact(BaseModel):
    """A whole shard; without ``path`` and ``reused`` it is the shard's ledger."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    key: str
    """What the rows were made from."""
    start: int
    stop: int
    """Users ``start`` up to, not including, ``stop``."""
    rows: int
    sha256: str
    reused: bool = False
    """Whether it was found whole."""


def shard_ranges(n_users: int, shard_users: int) -> list[tuple[int, int]]:
    """First user and end of each shard; without any user one empty shard, which has the columns.

    >>> shard_ranges(5, 2), shard_ranges(0, 2)
    ([(0, 2), (2, 4), (4, 5)], [(0, 0)])

    Raises:
        ConfigError: If a shard is to hold no user.
    """
    if shard_users < 1:
        raise ConfigError(
            "parameter shard_users",
            found=str(shard_users),
            wanted="at least 1",
            next_step="ask for shard_users=1 or more",
        )
    starts = range(0, max(n_users, 1), shard_users)
    return [(start, min(start + shard_users, n_users)) for start in starts]


def write_shards(
    directory: Path,
    n_users: int,
    shard_users: int,
    make: Make,
    *,
    key: str,
    workers: int = 1,
    progress: Callable[[ShardFact], None] | None = None,
) -> list[ShardFact]:
    """Write the lists of all users, shard by shard, keeping the whole shards that are there.

    Args:
        directory: Where shards and ledgers lie; it outlives a kill. Nothing else may be in it.
        n_users: Users in all.
        shard_users: Users a shard.
        make: Makes the lists of some users.
        key: Names everything the rows depend on. Shards of another key, or of another cut of the
            users, are discarded.
        workers: Shards in progress at once; memory grows with it, files do not change.
        progress: Called with every shard once it is whole, found ones first; never from a worker.

    Returns:
        The shards in the order of their users.

    Raises:
        ConfigError: If a shard is to hold no user.
        StorageError: If the directory cannot be read or written.
    """
    ranges = shard_ranges(n_users, shard_users)
    say = progress or (lambda _: None)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        facts = _sweep(directory, ranges, key)
    except OSError as error:
        raise _unwritable(directory, error) from error
    for fact in facts.values():
        say(fact)

    def write(index: int) -> ShardFact:
        start, stop = ranges[index]
        return write_shard(directory, index, start, stop, make(start, stop), key=key)

    def whole(index: int, fact: ShardFact) -> None:
        facts[index] = fact
        say(fact)

    _in_turns(write, [index for index in range(len(ranges)) if index not in facts], workers, whole)
    return [facts[index] for index in range(len(ranges))]


def _in_turns(
    write: Callable[[int], ShardFact],
    missing: list[int],
    workers: int,
    whole: Callable[[int, ShardFact], None],
) -> None:
    """Write shards, ``workers`` at once; ``whole`` hears of each from the caller's thread."""
    if workers <= 1 or len(missing) <= 1:
        for index in missing:
            whole(index, write(index))
        return
    pool = ThreadPoolExecutor(min(workers, len(missing)), thread_name_prefix="shard")
    try:
        begun = {pool.submit(write, index): index for index in missing}
        for future in as_completed(begun):
            whole(begun[future], future.result())
    finally:
        # After an error nobody begins another shard; those in progress are still finished.
        pool.shutdown(cancel_futures=True)


def write_shard(
    directory: Path,
    index: int,
    start: int,
    stop: int,
    tables: Iterable[pa.Table | pl.DataFrame],
    *,
    key: str,
) -> ShardFact:
    """Write one shard and its ledger, whole or not at all.

    Args:
        directory: Where it lies.
        index: Its number.
        start: Its first user.
        stop: The end of its users.
        tables: Its rows, in order; at least one table.
        key: Names everything the rows depend on.

    Raises:
        StorageError: If the directory cannot be written.
    """
    path = directory / _SHARD.format(index)
    aside = path.with_name(f".{path.name}{_PARTIAL}")
    try:
        rows = write_stream(aside, tables)
        fact = ShardFact(
            path=path, key=key, start=start, stop=stop, rows=rows, sha256=hash_file(aside)
        )
        aside.replace(path)
        _flush(directory)
        _note(fact)
    except OSError as error:
        raise _unwritable(directory, error) from error
    finally:
        # Also when whatever makes the rows fails; after a kill the next call does it.
        with suppress(OSError):
            aside.unlink(missing_ok=True)
    return fact


def hand_over(facts: Iterable[ShardFact], target: Path) -> None:
    """Put the shards, without their ledgers, into the new directory ``target``.

    They stay where they are, too, as further names of the same files where the file system has
    such: should the process be killed before ``target`` is published, they are found again.

    Raises:
        StorageError: If ``target`` exists or cannot be written.
    """
    try:
        target.mkdir(parents=True)
        for fact in facts:
            try:
                os.link(fact.path, target / fact.path.name)
            except OSError:
                shutil.copyfile(fact.path, target / fact.path.name)
    except OSError as error:
        raise _unwritable(target, error) from error


def _sweep(directory: Path, ranges: list[tuple[int, int]], key: str) -> dict[int, ShardFact]:
    """The whole shards by number; whatever else is in the directory is removed."""
    whole: dict[int, ShardFact] = {}
    for index, (start, stop) in enumerate(ranges):
        path = directory / _SHARD.format(index)
        ledger = _read_ledger(path)
        if (
            ledger is not None
            and (ledger.key, ledger.start, ledger.stop) == (key, start, stop)
            and path.is_file()
            and hash_file(path) == ledger.sha256
        ):
            whole[index] = ledger.model_copy(update={"reused": True})
    kept = {name for fact in whole.values() for name in (fact.path, _ledger(fact.path))}
    for path in directory.iterdir():
        if path not in kept:
            path.unlink()
    return whole


def _read_ledger(path: Path) -> ShardFact | None:
    try:
        text = _ledger(path).read_text(encoding="utf-8")
        # The directory may have been moved since.
        return ShardFact.model_validate_json(text).model_copy(update={"path": path})
    except (OSError, ValueError):
        return None


def _ledger(path: Path) -> Path:
    return path.with_suffix(_LEDGER)


def _note(fact: ShardFact) -> None:
    ledger = _ledger(fact.path)
    aside = ledger.with_name(f".{ledger.name}{_PARTIAL}")
    noted = fact.model_copy(update={"path": Path(fact.path.name)})
    with aside.open("w", encoding="utf-8") as stream:
        stream.write(noted.model_dump_json(indent=2))
        stream.flush()
        os.fsync(stream.fileno())
    aside.replace(ledger)
    _flush(ledger.parent)


def _flush(directory: Path) -> None:
    """Make the names in a directory outlive a loss of power."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unwritable(directory: Path, error: OSError) -> StorageError:
    return StorageError(
        f"shards in {directory}",
        found=f"{type(error).__name__}: {error.strerror or error}",
        wanted="a directory that can be read and written, with room for the lists",
        next_step="free disk space or repair permissions, then run again: whole shards are kept",
    )
