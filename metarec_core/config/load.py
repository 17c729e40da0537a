"""Fill the settings tree from a YAML file and from ``a.b=c`` overrides."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pydantic
import yaml

from metarec_core.config.tree import Config
from metarec_core.errors import ConfigError

_CREDENTIALS = re.compile(r"(://)[^/\s]*@")


def load_config(file: Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """Defaults, overlaid by ``file``, overlaid by ``overrides`` in their order.

    Args:
        file: A YAML file that holds any part of the tree.
        overrides: Items such as ``training.threads=1``; values are parsed as YAML.

    Raises:
        ConfigError: If the file cannot be read, or a name or value does not fit the tree.
    """
    return parse_config(read_tree(file, overrides))


def read_tree(file: Path | None = None, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """``file`` overlaid by ``overrides`` as a plain tree, not yet held against the bounds.

    Raises:
        ConfigError: If the file or an override cannot be read.
    """
    tree: dict[str, Any] = _read(file) if file is not None else {}
    for override in overrides:
        _apply(tree, override)
    return tree


def parse_config(tree: Mapping[str, Any]) -> Config:
    """Validate a plain tree.

    Raises:
        ConfigError: Naming the first setting at fault, its value, and what was wanted.
    """
    try:
        return Config.model_validate(tree)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _as_config_error(first) from error


def _read(file: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"configuration file {file}",
            found=f"{type(error).__name__}: {error}",
            wanted="a readable YAML file",
            next_step="check the path and the syntax given to --config",
        ) from error
    if not isinstance(tree, dict):
        raise ConfigError(
            f"configuration file {file}",
            found=f"a {type(tree).__name__} at the top",
            wanted="a mapping of sections such as 'training:'",
            next_step="see 'metarec config' for the whole tree",
        )
    return tree


def _apply(tree: dict[str, Any], override: str) -> None:
    path, separator, raw = override.partition("=")
    names = path.strip().split(".")
    if not separator or not all(names):
        raise ConfigError(
            f"--set {override!r}",
            found="no 'name=value'",
            wanted="a dotted name, '=', and a value, such as training.threads=1",
            next_step="write it so; 'metarec config' lists every name",
        )
    node = tree
    for name in names[:-1]:
        child = node.setdefault(name, {})
        if not isinstance(child, dict):
            child = node[name] = {}
        node = child
    try:
        node[names[-1]] = yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"--set {path}",
            found=repr(raw),
            wanted="a value in YAML",
            next_step="quote it, such as --set 'dataset.name=\"a: b\"'",
        ) from error


def _as_config_error(detail: Any) -> ConfigError:
    where = ".".join(str(part) for part in detail["loc"]) or "configuration"
    if detail["type"] == "extra_forbidden":
        close = difflib.get_close_matches(where.split(".")[-1], _names_beside(where), n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        return ConfigError(
            f"setting {where}",
            found="a name that does not exist",
            wanted=f"one of {', '.join(_names_beside(where)) or 'the known sections'}",
            next_step=f"{hint}'metarec config' prints every setting with its bounds",
        )
    return ConfigError(
        f"setting {where}",
        # Somebody may have put a database's address where the name of its variable belongs.
        found=_CREDENTIALS.sub(r"\1***@", repr(detail.get("input"))),
        wanted=str(detail["msg"]),
        next_step="correct it in the file, the form or --set; 'metarec config' prints the bounds",
    )


def _names_beside(where: str) -> list[str]:
    node: Any = Config
    for name in where.split(".")[:-1]:
        field = getattr(node, "model_fields", {}).get(name)
        if field is None:
            return []
        node = field.annotation
    return list(getattr(node, "model_fields", {}))
