"""The settings tree from files and overrides."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from metarec_core.config import Config, load_config, parse_config
from metarec_core.config.describe import describe_settings
from metarec_core.errors import ConfigError


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "night.yaml"
    file.write_text("seed: 1\ntraining:\n  threads: 4\n  device: cpu\n")
    config = load_config(file, ["training.threads=3", "episodes.support_sizes=[0, 5]"])
    assert (config.seed, config.training.threads, config.training.device) == (1, 3, "cpu")
    assert config.episodes.support_sizes == (0, 5)


def test_the_tree_survives_its_own_json() -> None:
    assert parse_config(Config().model_dump(mode="json")) == Config()


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.thread=1", "did you mean 'threads'"),
        ("trainin.threads=1", "did you mean 'training'"),
        ("episodes.test_fraction=3", "less than 0.5"),
        ("training.learners=[foo]", "unknown learners"),
        ("training.learners=[bias, bias]", "each once"),
        ("learners.gaussian.loop.epochs=0", "learners.gaussian.loop.epochs"),
        ("cleaning.memory_limit=lots", "cleaning.memory_limit"),
        ("seed", "no 'name=value'"),
        ("seed=[", "a value in YAML"),
        ("seed.x=1", "setting seed"),
    ],
)
def test_a_wrong_setting_is_named(override: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected.replace("[", r"\[")) as caught:
        load_config(None, [override])
    assert caught.value.next_step


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "\x00"])
def test_a_file_that_is_no_tree_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "night.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"night\.yaml"):
        load_config(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")


def fields(model: type[BaseModel], path: str = ""):
    for name, field in model.model_fields.items():
        yield f"{path}{name}", field
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields(field.annotation, f"{path}{name}.")


@pytest.mark.parametrize(("name", "field"), list(fields(Config)))
def test_every_setting_is_described(name: str, field) -> None:
    assert field.description, name


def test_the_described_tree_is_the_tree(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    changed = Config().changed({"learners": {"maml": {"variant": "anil"}}})
    file.write_text(describe_settings(changed))
    assert load_config(file) == changed
    assert "[maml | fomaml | anil | reptile]" in file.read_text()


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().seed = 3  # type: ignore[misc]


def test_an_address_in_the_place_of_its_variable_is_not_repeated() -> None:
    address = "postgresql://me:hunter2@host/db"
    with pytest.raises(ConfigError, match="url_variable") as caught:
        load_config(None, [f"recommend.sinks.database.url_variable={address}"])
    assert "://***@host/db" in str(caught.value)
    assert "hunter2" not in str(caught.value)
