"""The steps of CONTRIBUTING's "A new learner", followed to the letter in a copy of the project."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("metarec_core", "tasks", "flows", "expectations", "tests", "pyproject.toml")


def written_in_contributing() -> str:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.partition("## A new learner")[2].partition("\n## ")[0]
    found = re.search(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert found is not None
    return textwrap.dedent("   " + found.group(1).lstrip())


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project with the learner's file and its line in the registry."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, tmp_path / name, ignore=ignored)
        else:
            shutil.copy(source, tmp_path / name)
    learners = tmp_path / "metarec_core" / "learners"
    (learners / "item_mean.py").write_text(written_in_contributing(), encoding="utf-8")
    registry = learners / "registry.py"
    text = registry.read_text(encoding="utf-8")
    line = "from metarec_core.learners.item_mean import ItemMean\n"
    text = text.replace("from metarec_core.section", line + "from metarec_core.section", 1)
    text = text.replace("        Popularity,\n", "        Popularity,\n        ItemMean,\n", 1)
    registry.write_text(text, encoding="utf-8")
    return tmp_path


def run_in(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(project)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_one_file_and_one_line_make_a_learner(project: Path) -> None:
    contract = run_in(
        project,
        "-m",
        "pytest",
        "-q",
        "tests/metarec_core/learners/test_contract.py",
        "tests/metarec_core/test_search.py",
        "-k",
        "item_mean",
    )
    assert contract.returncode == 0, contract.stdout[-3000:]
    assert re.search(r"\b2\d passed", contract.stdout), contract.stdout[-500:]

    form = run_in(project, "-m", "flows.cli", "config")
    assert "item_mean" in form.stdout, form.stderr[-2000:]
