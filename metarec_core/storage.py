"""Stages publish whole directories: written aside, described by a manifest, renamed into place."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from metarec_core import __version__
from metarec_core.errors import StorageError
from metarec_core.home import Home

MANIFEST = "manifest.json"
_COMPUTING = ("duckdb", "numpy", "polars", "scikit-learn", "torch")


class Manifest(BaseModel):
    """What a published directory holds and where it came from (``manifest.json``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    key: str
    created_at: datetime
    seconds: float
    code_version: str
    config_hash: str
    inputs: dict[str, str]
    """Content hash of each upstream directory, by stage name."""
    files: dict[str, str]
    """SHA-256 of each file, by relative path."""
    content_hash: str
    """SHA-256 over ``files``: two directories with the same bytes have the same one."""
    rows_in: int | None
    rows_out: int | None
    facts: dict[str, Any]
    """What else the stage counted or decided, as plain JSON."""


class StageOutput(BaseModel):
    """A typed reference to a published stage: what flows hand from task to task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    key: str
    path: Path
    content_hash: str
    reused: bool
    seconds: float
    """Time this run spent on it: building, or finding it."""
    rows_in: int | None
    rows_out: int | None
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StageFacts:
    """What a stage's builder reports: row counts, and anything else that JSON can hold."""

    rows_in: int | None = None
    rows_out: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)


Build = Callable[[Path, Path], StageFacts]
"""Writes a stage's files into the first directory; the second is scratch that survives a kill
(checkpoints) and is removed once the stage is published."""


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_files(directory: Path) -> dict[str, str]:
    """SHA-256 of each file below ``directory`` but its own manifest, by relative path."""
    return {
        path.relative_to(directory).as_posix(): hash_file(path)
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path != directory / MANIFEST
    }


def hash_directory(directory: Path) -> str:
    """One hash over :func:`hash_files`: two directories with the same bytes have the same one."""
    return hash_json(hash_files(directory))


def hash_json(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, as hex; pydantic models count as their JSON form."""

    def plain(item: Any) -> Any:
        return item.model_dump(mode="json") if isinstance(item, BaseModel) else str(item)

    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=plain)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def code_version() -> str:
    """Package version and a hash of what decides the bytes: an edit makes new stage keys.

    That is metarec_core's sources and the versions of the libraries that compute.
    """
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for source in sorted(root.rglob("*")):
        if source.suffix in {".py", ".yaml", ".sql"}:
            digest.update(source.relative_to(root).as_posix().encode())
            digest.update(source.read_bytes())
    for library in _COMPUTING:
        digest.update(f"{library} {version(library)}".encode())
    return f"{__version__}+{digest.hexdigest()[:12]}"


@contextmanager
def publishing(target: Path) -> Iterator[Path]:
    """Yield a directory beside ``target`` that takes its place once the block ends well.

    A block that raises leaves ``target`` as it was and removes the unfinished directory; a
    process that is killed leaves only an unfinished one, which the next call removes.

    Raises:
        StorageError: If the directory cannot be written or renamed.
    """
    aside = target.with_name(f".{target.name}.partial")
    try:
        _recover(target)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    except OSError as error:
        raise _unwritable(target, error) from error
    try:
        yield aside
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    try:
        replace_directory(aside, target)
    except OSError as error:
        raise _unwritable(target, error) from error


def replace_directory(source: Path, target: Path) -> None:
    """Rename ``source`` to ``target``; an old ``target`` is first moved away, then removed."""
    old = _old(target)
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    source.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _recover(target: Path) -> None:
    """Put back what a process that was killed between the two renames had moved away."""
    if not target.exists() and _old(target).exists():
        _old(target).rename(target)


def point_to(link: Path, target: Path) -> None:
    """Make the symbolic link ``link`` point to ``target`` (relative), atomically."""
    aside = link.with_name(f".{link.name}.{os.getpid()}")
    aside.unlink(missing_ok=True)
    aside.symlink_to(os.path.relpath(target, link.parent))
    aside.replace(link)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.parent.mkdir(parents=True, exist_ok=True)
    text = value.model_dump_json(indent=2) if isinstance(value, BaseModel) else None
    aside.write_text(text or json.dumps(value, indent=2, default=str), encoding="utf-8")
    aside.replace(path)


def describe(
    directory: Path,
    *,
    stage: str,
    key: str,
    config_hash: str,
    inputs: Mapping[str, str],
    report: StageFacts,
    seconds: float,
) -> Manifest:
    """Hash every file of ``directory``, write its manifest there and return it."""
    files = hash_files(directory)
    manifest = Manifest(
        stage=stage,
        key=key,
        created_at=datetime.now(UTC),
        seconds=seconds,
        code_version=code_version(),
        config_hash=config_hash,
        inputs=dict(inputs),
        files=files,
        content_hash=hash_json(files),
        rows_in=report.rows_in,
        rows_out=report.rows_out,
        facts=report.facts,
    )
    write_json(directory / MANIFEST, manifest)
    return manifest


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a published directory.

    Raises:
        StorageError: If there is none, or it is damaged.
    """
    path = directory / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(
            f"manifest {path}",
            found=f"{type(error).__name__}",
            wanted="a readable manifest.json",
            next_step="remove the directory; the next run builds it anew",
        ) from error


def build_stage(
    home: Home,
    stage: str,
    *,
    settings: Any,
    inputs: Sequence[StageOutput] = (),
    fingerprint: str = "",
    build: Build,
) -> StageOutput:
    """Build a stage's output, or find the one that the same inputs built before.

    The key covers the stage's name, ``settings``, the content of ``inputs``, ``fingerprint``
    (of anything read from outside the lake) and the code version.

    Args:
        home: Where the lake is.
        stage: The stage's name, also its folder in the lake.
        settings: Sections and values the stage depends on; anything JSON or pydantic.
        inputs: Upstream outputs the stage reads.
        fingerprint: Hash of what it reads from elsewhere.
        build: Writes the output and reports its counts; see :data:`Build`.

    Raises:
        StorageError: If the lake cannot be written.
    """
    started = time.perf_counter()
    config_hash = hash_json(settings)
    upstream = {item.stage: item.content_hash for item in inputs}
    key = hash_json([stage, config_hash, upstream, fingerprint, code_version()])[:16]
    target = home.lake / stage / key
    scratch = target.with_name(f".{key}.scratch")
    manifest = _whole(target)
    reused = manifest is not None
    if manifest is None:
        with publishing(target) as directory:
            report = build(directory, scratch)
            manifest = describe(
                directory,
                stage=stage,
                key=key,
                config_hash=config_hash,
                inputs=upstream,
                report=report,
                seconds=time.perf_counter() - started,
            )
    shutil.rmtree(scratch, ignore_errors=True)
    return StageOutput(
        stage=stage,
        key=key,
        path=target,
        content_hash=manifest.content_hash,
        reused=reused,
        seconds=time.perf_counter() - started,
        rows_in=manifest.rows_in,
        rows_out=manifest.rows_out,
        facts=manifest.facts,
    )


def prune(home: Home, keep: int) -> list[Path]:
    """Remove all but the ``keep`` last used outputs of each stage, and as many scratch places.

    Published lists are files of their own: nothing that readers see is removed.

    Returns:
        The directories that were removed.
    """
    removed = []
    for stage in sorted(path for path in home.lake.iterdir() if path.is_dir()):
        outputs = [path for path in stage.iterdir() if (path / MANIFEST).exists()]
        scratch = [path for path in stage.iterdir() if path.name.endswith(".scratch")]
        for places in (outputs, scratch):
            places.sort(key=_last_used, reverse=True)
            removed += places[keep:]
    for path in removed:
        shutil.rmtree(path, ignore_errors=True)
    return removed


def _last_used(place: Path) -> float:
    manifest = place / MANIFEST
    return (manifest if manifest.exists() else place).stat().st_mtime


def _whole(target: Path) -> Manifest | None:
    """The manifest of an output whose files are still those it was published with."""
    if not (target / MANIFEST).exists():
        return None
    manifest = read_manifest(target)
    if hash_files(target) != manifest.files:
        return None
    os.utime(target / MANIFEST)  # used now: pruning removes what was not used for longest
    return manifest


def _unwritable(target: Path, error: OSError) -> StorageError:
    return StorageError(
        f"directory {target}",
        found=f"{type(error).__name__}: {error.strerror or error}",
        wanted="a directory that can be created and renamed here",
        next_step="check free space and permissions, or set METAREC_HOME elsewhere",
    )
