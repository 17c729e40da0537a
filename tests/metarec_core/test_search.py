"""Every search space fits the settings it is declared for."""

from typing import Any

import pytest

from metarec_core.errors import ConfigError
from metarec_core.learners.registry import LEARNERS
from metarec_core.search import Choice, Distribution, Integer, Uniform
from metarec_core.section import Section

SPACES = [
    (name, path, space)
    for name, learner in LEARNERS.items()
    for path, space in learner.Config.search.items()
]


def nested(path: str, value: object) -> dict[str, Any]:
    first, _, rest = path.partition(".")
    return {first: nested(rest, value) if rest else value}


def read(section: Section, path: str) -> Any:
    for name in path.split("."):
        section = getattr(section, name)
    return section


@pytest.mark.parametrize(("name", "path", "space"), SPACES, ids=str)
def test_the_ends_are_legal_and_the_default_lies_between(
    name: str, path: str, space: Distribution
) -> None:
    kind = LEARNERS[name].Config
    ends = space.values if isinstance(space, Choice) else (space.low, space.high)
    for value in ends:
        got = read(kind.model_validate(nested(path, value), strict=True), path)
        assert got == value
        assert type(got) is type(value)
    default = read(kind(), path)
    if isinstance(space, Choice):
        assert default in space.values
    else:
        assert space.low <= default <= space.high


def test_learners_with_settings_to_choose_say_where_to_look() -> None:
    named = {name for name, *_ in SPACES}
    assert {"bias", "gaussian", "item_knn", "ease", "ials", "blr"} <= named
    assert {"amortised", "content", "maml", "average"} <= named
    assert "popularity" not in named


@pytest.mark.parametrize(
    "make",
    [
        lambda: Uniform(1.0, 1.0),
        lambda: Uniform(0.0, 1.0, log=True),
        lambda: Integer(5, 2),
        lambda: Integer(0, 2, log=True),
        lambda: Choice(()),
    ],
)
def test_an_empty_space_is_refused_where_it_is_declared(make) -> None:
    with pytest.raises(ConfigError, match="search"):
        make()
