"""What the README says is what there is; and followed to the letter it works."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest
import typer
import yaml

from flows.cli import app

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")

LAYOUT = TEXT[TEXT.index("## Layout") :]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def commands() -> list[list[str]]:
    """Every command in a shell block or between backticks, without its comment and variables."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    lines += re.findall(r"`((?:make|metarec|\.venv/bin/metarec) [^`]+)`", TEXT)
    plain = [re.sub(r"^([A-Z_]+=\S+ +)+", "", line).partition(">")[0] for line in lines]
    return [words for line in plain if (words := shlex.split(line, comments=True))]


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
        for row in re.findall(r"^\| `(.*?)` \|", LAYOUT, flags=re.MULTILINE)
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


def test_the_example_of_rules_is_legal(tmp_path: Path) -> None:
    from metarec_core.ranking.rules import load_rules

    (example,) = [block for block in blocks("yaml") if "interactions:" not in block]
    (header,) = re.findall(r"has the columns `(rule,[a-z_,]+)`", TEXT)
    (tmp_path / "rules.yaml").write_text(example)
    (tmp_path / "rules.csv").write_text(f"{header}\npin,7,,,2026-03-01,2026-03-08,1\n")
    rules = load_rules(tmp_path / "rules.yaml")
    assert rules.document.caps == {"Horror": 2}
    assert rules.document.consumed_after_days == 90
    assert rules.table["position"].to_list() == [1]


def test_the_example_of_a_descriptor_is_the_one_that_tests_run(own_dataset) -> None:
    from metarec_core.ingest.descriptor import load_descriptor

    (example,) = [block for block in blocks("yaml") if "interactions:" in block]
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


STEP = re.compile(
    r"```(?P<language>\w+)\n(?P<block>.*?)```"
    r"|`(?P<inline>(?:\w+=\S+\s)*\.venv/bin/metarec\srun\s[^`]+)`",
    flags=re.DOTALL,
)


@dataclass
class Terminal:
    """One shell session of a new user in what looks like a fresh clone that is set up.

    What a block exports is still there in the next one, as in a real terminal.
    """

    clone: Path
    variables: dict[str, str]
    said: dict[str, str] = field(default_factory=dict)

    def type(self, text: str) -> str:
        """Run a block of shell commands, all of which must succeed; return what it printed."""
        exports = self.clone.parent / "exports.sh"
        script = f"[ ! -e {exports} ] || source {exports}; cd {self.clone}; set -euo pipefail\n"
        return self._run(["bash", "-c", f"{script}{text}\nexport -p > {exports}"], text, self.clone)

    def python(self, text: str, directory: Path) -> str:
        return self._run([sys.executable, "-c", text], text, directory)

    def _run(self, words: list[str], text: str, directory: Path) -> str:
        done = subprocess.run(
            words,
            cwd=directory,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"{text}\n--- printed:\n{done.stdout[-4000:]}"
        self.said[text] = done.stdout
        return done.stdout


@pytest.fixture
def terminal(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Terminal]:
    clone = tmp_path / "metarec"
    clone.mkdir()
    for entry in ROOT.iterdir():
        if entry.name == ".venv" or not entry.name.startswith((".", "var")):
            (clone / entry.name).symlink_to(entry)
    foreign = ("PREFECT", "MLFLOW", "METAREC", "MAKE", "MFLAGS")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    ports = {f"METAREC_{name}_PORT": str(free_port()) for name in ("PREFECT", "MLFLOW")}
    terminal = Terminal(clone, variables | ports)
    # Else 'make' would install the linked tree over the one that these tests run from.
    stamp = subprocess.run(["make", "--question", ".venv/.installed"], cwd=clone)
    assert stamp.returncode == 0, "run 'make install' first: .venv is missing or out of date"
    try:
        yield terminal
    finally:
        (tmp_path / "exports.sh").unlink(missing_ok=True)
        terminal.type("make down")


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.timeout(1200)
def test_followed_to_the_letter_it_works(
    terminal: Terminal, tmp_path: Path, shared_data: Path, make_own_dataset: Callable
) -> None:
    """Every block and every 'metarec run' in the text, in order, as it stands there."""
    clone = terminal.clone
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for step in STEP.finditer(TEXT):
        block = step["block"]
        if step["inline"]:
            # The text says: with a home of its own.
            command = step["inline"].replace("\n", " ")
            own = "" if "METAREC_HOME" in command else "METAREC_HOME=$PWD/var-shop "
            terminal.type(own + command)
        elif step["language"] == "sh":
            # What nobody can type as it stands.
            terminal.type(block.replace("DIRECTORY", str(shared_data / "ml-latest-small")))
        elif step["language"] == "python":
            address = "http://127.0.0.1:5000"
            assert address in block
            port = terminal.variables["METAREC_MLFLOW_PORT"]
            printed = terminal.python(block.replace(address, f"http://127.0.0.1:{port}"), elsewhere)
            assert len(re.findall(r"^\d+ +[1-5] ", printed, flags=re.M)) == 5, printed
        elif step["language"] == "yaml" and "interactions:" not in block:
            (clone / "rules.yaml").write_text(block)
        elif step["language"] == "yaml":
            dataset = make_own_dataset(tmp_path / "shop")
            for table in dataset.root.glob("*.csv"):
                shutil.copy(table, clone)
            (clone / "shop.yaml").write_text(block)
        else:
            pytest.fail(f"the README has a block in {step['language']}; nobody tries it")

    for word in ("make demo", "make up", "show 1", "status", "shop.yaml", "night.yaml"):
        assert any(word in typed for typed in terminal.said), word
    shown = next(printed for typed, printed in terminal.said.items() if "show 1" in typed)
    assert re.search(r"^ 1\. \w+", shown, flags=re.MULTILINE), shown
    assert re.search(r"Predicted rating [1-5]\.\d, nine times in ten between [1-5]\.\d and", shown)
    assert re.search(r"\d+% likely to be 4 or more", shown), shown
    assert "Because" in shown
    homes = {
        path.parents[2].name for path in clone.glob("var*/lists/latest/recommendations.parquet")
    }
    assert {"var", "var-shop"} <= homes
    assert len(homes) == 3, homes
    lists = pl.read_parquet(clone / "var" / "lists" / "latest" / "recommendations.parquet")
    assert lists["user_id"].n_unique() == 943
    assert lists["rank"].max() == 20  # as the last run was told
    for place in ("data_docs/index.html", "runs/latest/summary.md"):
        assert (clone / "var" / place).is_file(), place
