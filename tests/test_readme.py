"""What the README says is what there is."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from flows.cli import app

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def commands() -> list[list[str]]:
    """Every command in a shell block or between backticks, without its comment."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    lines += re.findall(r"`((?:make|metarec|\.venv/bin/metarec) [^`]+)`", TEXT)
    return [shlex.split(line.partition(">")[0], comments=True) for line in lines if line.strip()]


def test_there_are_commands_to_check() -> None:
    assert len(commands()) >= 10


@pytest.mark.parametrize("words", [w for w in commands() if w[0] == "make"], ids=" ".join)
def test_make_has_every_target(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{words[1]}:", makefile, flags=re.MULTILINE)


@pytest.mark.parametrize("words", [w for w in commands() if w[0].endswith("metarec")], ids=" ".join)
def test_the_command_takes_every_option(words: list[str]) -> None:
    command = typer.main.get_command(app)
    rest = words[1:]
    while hasattr(command, "commands"):
        command = command.commands[rest[0]]
        rest = rest[1:]
    with command.make_context("metarec", list(rest)) as context:
        assert context.command is command


def test_every_folder_of_the_layout_exists() -> None:
    folders = [
        name
        for row in re.findall(r"^\| `(.*?)` \|", TEXT, flags=re.MULTILINE)
        for name in row.split("`, `")
        if not name.startswith("var/")
    ]
    assert len(folders) >= 5
    for name in folders:
        assert (ROOT / name).is_dir(), name


def test_settings_that_are_named_exist(tmp_path: Path) -> None:
    from metarec_core.config import load_config

    named = set(re.findall(r"`((?:validation|training|recommend|dataset)\.[a-z_]+)`", TEXT))
    assert named
    tree = load_config().model_dump()
    for name in named:
        section, setting = name.split(".")
        assert setting in tree[section], name


def test_the_example_of_a_descriptor_is_the_one_that_tests_run(own_dataset) -> None:
    from metarec_core.ingest.descriptor import load_descriptor

    (example,) = blocks("yaml")
    tested = yaml.safe_load(own_dataset.descriptor.read_text())
    tested.pop("timestamp_unit")  # seconds, the default
    assert yaml.safe_load(example) == tested
    own_dataset.descriptor.write_text(example)
    assert load_descriptor(own_dataset.descriptor).name == "shop"


def test_the_example_of_pulling_a_model_is_python(tmp_path: Path) -> None:
    (example,) = blocks("python")
    assert len(example.strip().splitlines()) <= 10
    script = tmp_path / "pull.py"
    script.write_text(example)
    subprocess.run([sys.executable, "-m", "py_compile", str(script)], check=True)
