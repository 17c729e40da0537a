"""Find the directory that holds a dataset's files."""

from __future__ import annotations

from pathlib import Path

from metarec_core.config import DatasetConfig
from metarec_core.errors import DatasetError
from metarec_core.home import Home
from metarec_core.ingest.descriptor import DatasetDescriptor
from metarec_core.ingest.hints import did_you_mean, listing


def locate(descriptor: DatasetDescriptor, config: DatasetConfig, home: Home) -> Path:
    """Directory of the dataset's files, all of which exist.

    The directory is the first of: the one that ``config.path`` names; the fetched one, for a
    dataset that can be fetched; the one of the descriptor's own file.

    Raises:
        DatasetError: If the directory or one of the files is missing.
    """
    root = _root(descriptor, config, home)
    missing = [
        source.path
        for source in descriptor.sources().values()
        if not (root / source.path).is_file()
    ]
    if missing:
        beside = sorted(path.name for path in root.iterdir() if path.is_file())
        raise DatasetError(
            f"dataset {descriptor.name}, file {root / missing[0]}",
            found=f"no such file; the directory has {listing(beside)}",
            wanted=f"the files {listing(s.path for s in descriptor.sources().values())}",
            next_step=f"{did_you_mean(Path(missing[0]).name, beside)}correct the path in the "
            "descriptor, or set dataset.path to the directory that holds the files",
        )
    return root


def _root(descriptor: DatasetDescriptor, config: DatasetConfig, home: Home) -> Path:
    if config.path:
        root = Path(config.path).expanduser().absolute()
        next_step = "set dataset.path to the directory that holds the dataset's files"
    elif descriptor.fetch is not None:
        root = home.datasets / descriptor.name
        next_step = (
            f"run 'metarec data fetch {descriptor.name}', or set dataset.path to a directory "
            "that has the files"
        )
    elif descriptor.origin is not None:
        root = descriptor.origin
        next_step = "set dataset.path to the directory that holds the dataset's files"
    else:
        paths = [source.path for source in descriptor.sources().values()]
        raise DatasetError(
            f"dataset {descriptor.name}",
            found="no directory for its files: it cannot be fetched and dataset.path is empty",
            wanted=f"a directory with {listing(paths)}",
            next_step="download the set from its owners, unpack it, and set dataset.path to the "
            "directory",
        )
    if not root.is_dir():
        raise DatasetError(
            f"dataset {descriptor.name}, directory {root}",
            found="a file" if root.exists() else "no such directory",
            wanted="a directory with the dataset's files",
            next_step=next_step,
        )
    return root
