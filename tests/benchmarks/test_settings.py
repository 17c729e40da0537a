"""The settings that README quotes figures for can be read, and change learners alone."""

from pathlib import Path

import pytest

from metarec_core.config import Config
from metarec_core.config.load import load_config

FILES = sorted((Path(__file__).parents[2] / "benchmarks").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_of_settings_is_read_whole(file: Path) -> None:
    settings = load_config(file)
    assert settings.learners != Config().learners
    assert settings.model_copy(update={"learners": Config().learners}) == Config()
    # A protocol's file names its own command.
    assert f"--protocol {file.stem} --config benchmarks/{file.name}" in file.read_text()


def test_there_are_such_files() -> None:
    assert len(FILES) >= 3
