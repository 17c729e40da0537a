"""Load a registered model as a stranger: only what its requirements bring can be imported.

Run as ``python -I only_requirements.py STORE_URI MODEL_URI REPOSITORY`` with a request as JSON
on standard input (``rows``, a list of mappings, and ``params``); prints the answer as JSON.
"""

from __future__ import annotations

import importlib.machinery
import json
import logging
import os
import sys
from collections.abc import Sequence
from importlib.metadata import (
    DistributionFinder,
    PackageNotFoundError,
    packages_distributions,
    requires,
)
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def closure(stated: Sequence[str]) -> set[str]:
    """Names of all distributions that installing ``stated`` brings along."""
    wanted = [Requirement(line) for line in stated]
    found: dict[str, set[str]] = {}
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        extras = requirement.extras | {""}
        if extras <= found.get(name, set()):
            continue
        found.setdefault(name, set()).update(extras)
        try:
            lines = requires(name) or []
        except PackageNotFoundError:
            continue
        for line in lines:
            needed = Requirement(line)
            marker = needed.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
                wanted.append(needed)
    return set(found)


def hide_the_rest(stated: Sequence[str], repository: Path) -> None:
    """Make modules of other distributions, and those of the repository, impossible to find."""
    allowed = closure(stated)
    homes = {
        module: {canonicalize_name(name) for name in names}
        for module, names in packages_distributions().items()
    }
    path_finder: Any = importlib.machinery.PathFinder

    class StatedOnly:
        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
            owners = homes.get(name.partition(".")[0])
            if owners is not None and not owners & allowed:
                return None
            return path_finder.find_spec(name, path, target)

        @staticmethod
        def find_distributions(context: Any = DistributionFinder.Context()) -> Any:  # noqa: B008
            return [
                found
                for found in path_finder.find_distributions(context)
                if canonicalize_name(found.metadata["Name"]) in allowed
            ]

    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != repository]
    kept = [
        finder
        for finder in sys.meta_path
        if finder in (importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter)
    ]
    homes.pop("metarec_core", None)
    sys.meta_path[:] = [*kept, StatedOnly()]  # type: ignore[list-item]


def main() -> None:
    store, model, repository = sys.argv[1], sys.argv[2], Path(sys.argv[3]).resolve()
    request = json.load(sys.stdin)
    hide_the_rest(request["requirements"], repository)

    import mlflow
    import pandas as pd

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(store)
    loaded = mlflow.pyfunc.load_model(model)
    answer = loaded.predict(pd.DataFrame(request["rows"]), params=request["params"])

    import metarec_core

    json.dump(
        {
            "rows": answer.to_dict(orient="records"),
            "ignored": answer.attrs["ignored"],
            "code": str(Path(metarec_core.__file__).resolve()),
            "cwd": str(Path.cwd()),
            "pickle": os.environ.get("MLFLOW_ALLOW_PICKLE_DESERIALIZATION"),
            "strangers": sorted(
                name for name in ("prefect", "great_expectations", "duckdb") if name in sys.modules
            ),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
