"""The settings tree as commented YAML."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from metarec_core.config.tree import Config


def describe_settings(config: Config) -> str:
    """Every setting with its value, and its help and bounds as a comment; valid for --config."""
    return "\n".join(_lines(config, 0))


def _lines(section: BaseModel, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        note = " ".join((field.description or "").split())
        bounds = _bounds(field)
        yield f"{indent}# {note}{f' [{bounds}]' if bounds else ''}"
        if isinstance(value, BaseModel):
            if type(value).model_fields:
                yield f"{indent}{name}:"
                yield from _lines(value, depth + 1)
            else:
                yield f"{indent}{name}: {{}}"
        else:
            yield f"{indent}{name}: {_scalar(value)}"


def _scalar(value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    plain = plain.value if isinstance(plain, Enum) else plain
    text: str = yaml.safe_dump(plain, default_flow_style=True, width=10_000)
    return text.removesuffix("...\n").strip()


def _bounds(field: FieldInfo) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "pattern": "pattern"}
    found = [
        f"{sign} {getattr(rule, name)}"
        for rule in field.metadata
        for name, sign in signs.items()
        if getattr(rule, name, None) is not None
    ]
    kind = field.annotation
    choices = getattr(kind, "__args__", ())
    if isinstance(kind, type) and issubclass(kind, Enum):
        choices = tuple(member.value for member in kind)
    if choices and all(isinstance(choice, str) for choice in choices):
        found.append(" | ".join(choices))
    return ", ".join(found)
