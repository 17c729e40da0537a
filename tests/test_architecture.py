"""The shape of the house: who imports whom, and that importing does nothing."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("flows", "tasks", "metarec_core")
FRAMEWORKS = {"prefect", "mlflow", "great_expectations"}
MLFLOW_ONLY_IN = ("tasks/tracking", "tasks/model")
EXPECTATIONS_ONLY_IN = ("tasks/quality",)
OWN_VARIABLES = ("PREFECT", "MLFLOW", "METAREC", "GX", "DO_NOT_TRACK")
LONGEST_MODULE = 350
MEDIAN_MODULE = 180

MODULES = sorted(file for layer in LAYERS for file in (ROOT / layer).rglob("*.py"))


def relative(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def imported(file: Path) -> Iterator[str]:
    """Every module that the file names in an import, at whatever depth."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(file)} imports relatively"
            yield node.module or ""


def tops(file: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(file)}


def in_module(file: Path, stems: tuple[str, ...]) -> bool:
    """Whether the file is one of the modules, or lies in one that has become a package."""
    path = relative(file).removesuffix(".py")
    return any(path == stem or path.startswith(f"{stem}/") for stem in stems)


@pytest.mark.parametrize("file", MODULES, ids=relative)
def test_imports_point_downward_only(file):
    layer = file.relative_to(ROOT).parts[0]
    above = set(LAYERS[: LAYERS.index(layer)])
    assert not tops(file) & above
    assert "tests" not in tops(file)
    assert "benchmarks" not in tops(file)


@pytest.mark.parametrize("file", MODULES, ids=relative)
def test_frameworks_are_imported_only_where_they_belong(file):
    found = tops(file) & FRAMEWORKS
    if relative(file).startswith("metarec_core/"):
        assert not found
    if not in_module(file, MLFLOW_ONLY_IN):
        assert "mlflow" not in found
    if not in_module(file, EXPECTATIONS_ONLY_IN):
        assert "great_expectations" not in found


@pytest.mark.parametrize("file", MODULES, ids=relative)
def test_nothing_is_unpickled(file):
    assert not tops(file) & {"pickle", "cloudpickle", "dill", "joblib", "shelve"}


def test_no_module_of_flows_hides_another():
    # A worker puts flows/ itself first on the path.
    names = {file.stem for file in (ROOT / "flows").iterdir()} - {"__init__", "__pycache__"}
    assert not names & set(sys.stdlib_module_names)
    assert not names & (set(LAYERS) | FRAMEWORKS)


def test_modules_fit_on_a_few_screens():
    lengths = {
        relative(file): len(file.read_text(encoding="utf-8").splitlines()) for file in MODULES
    }
    assert {name: n for name, n in lengths.items() if n > LONGEST_MODULE} == {}
    assert sorted(lengths.values())[len(lengths) // 2] <= MEDIAN_MODULE


# Run in a fresh process, in an empty directory and home: whatever an import does shows there.
IMPORT_ALL = """
import importlib, json, os, socket, subprocess, sys, sysconfig, threading

standard, root = sysconfig.get_path("stdlib"), sys.argv[2]

def watched(original):
    # Libraries look at the machine while they are imported; our own modules may not act.
    def call(*args, **kwargs):
        frame = sys._getframe(1)
        while frame is not None and (
            frame.f_code.co_filename.startswith((standard, "<frozen"))
            and "site-packages" not in frame.f_code.co_filename
        ):
            frame = frame.f_back
        caller = "" if frame is None else os.path.relpath(frame.f_code.co_filename, root)
        if caller.startswith(("flows", "tasks", "metarec_core")):
            raise AssertionError(f"{caller} acts at import time")
        return original(*args, **kwargs)
    return call

socket.socket.__init__ = watched(socket.socket.__init__)
subprocess.Popen.__init__ = watched(subprocess.Popen.__init__)
threading.Thread.start = watched(threading.Thread.start)
environment = dict(os.environ)
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
changed = {k for k in {*os.environ, *environment} if os.environ.get(k) != environment.get(k)}
print(json.dumps({
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
    "changed": sorted(changed),
}))
"""


def import_all(names: list[str], scratch: Path) -> dict[str, list[str]]:
    work, home = scratch / "work", scratch / "home"
    work.mkdir()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(OWN_VARIABLES)
    }
    # Tools that were imported may write their own caches; where metarec keeps things is watched.
    environment |= {
        "HOME": str(scratch),
        "METAREC_HOME": str(home),
        "PREFECT_HOME": str(scratch / "prefect"),
        "MPLCONFIGDIR": str(scratch / "matplotlib"),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, json.dumps(names), str(ROOT)],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert list(work.iterdir()) == [], "an import wrote into the working directory"
    assert not home.exists(), "an import created the home"
    return json.loads(done.stdout.splitlines()[-1])


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def names_in(*layers: str) -> list[str]:
    return [
        module_name(file)
        for file in MODULES
        # The entry of models-from-code registers its model when MLflow loads the file.
        if file.relative_to(ROOT).parts[0] in layers and relative(file) != "tasks/model.py"
    ]


def test_importing_the_core_acts_not_and_brings_no_framework(tmp_path):
    seen = import_all(names_in("metarec_core"), tmp_path)
    assert [name for name in seen["changed"] if name.startswith(OWN_VARIABLES)] == []
    assert not set(seen["modules"]) & FRAMEWORKS


def test_importing_tasks_and_flows_acts_not(tmp_path):
    import_all(names_in("tasks", "flows"), tmp_path)
