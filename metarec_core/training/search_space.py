"""A declared search space as Optuna's: values of a trial, and the settings they make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.trial import Trial as OptunaTrial

from metarec_core.search import Choice, Distribution, Integer
from metarec_core.section import Section

Value = bool | int | float | str
Values = Mapping[str, Value]
"""Values by dotted path inside of the learner's section."""


def suggest(trial: OptunaTrial, space: Mapping[str, Distribution]) -> dict[str, Value]:
    """Ask the trial's sampler for a value of each setting, in the order of ``space``."""
    return {path: _suggest_one(trial, path, where) for path, where in space.items()}


def _suggest_one(trial: OptunaTrial, path: str, where: Distribution) -> Value:
    if isinstance(where, Choice):
        chosen = trial.suggest_categorical(path, list(where.values))
        assert chosen is not None
        return chosen
    if isinstance(where, Integer):
        return trial.suggest_int(path, where.low, where.high, log=where.log)
    return trial.suggest_float(path, where.low, where.high, log=where.log)


def present(section: Section, space: Mapping[str, Distribution]) -> dict[str, Value] | None:
    """What ``section`` says of the searched settings; None if a value lies outside of the space.

    >>> from metarec_core.learners.bias import BiasConfig
    >>> present(BiasConfig(), BiasConfig.search)
    {'item_shrinkage': 5.0, 'user_shrinkage': 3.0}
    """
    found: dict[str, Value] = {}
    for path, where in space.items():
        value: Any = section
        for name in path.split("."):
            value = getattr(value, name)
        inside = (
            value in where.values if isinstance(where, Choice) else where.low <= value <= where.high
        )
        if not inside:
            return None
        found[path] = value
    return found


def as_tree(values: Values) -> dict[str, Any]:
    """Dotted paths as a tree that :meth:`~metarec_core.section.Section.changed` takes.

    >>> as_tree({"dim": 8, "loop.epochs": 3, "loop.clip": 1.0})
    {'dim': 8, 'loop': {'epochs': 3, 'clip': 1.0}}
    """
    tree: dict[str, Any] = {}
    for path, value in values.items():
        *above, last = path.split(".")
        node = tree
        for name in above:
            node = node.setdefault(name, {})
        node[last] = value
    return tree
