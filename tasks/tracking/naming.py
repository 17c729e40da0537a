"""Nested settings and facts as the flat names and short values that MLflow takes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

MAX_VALUE = 500
"""Longest parameter or tag value that MLflow's pages show whole."""

_REFUSED = re.compile(r"[^\w.\- :/]", re.ASCII)


def metric_name(name: str) -> str:
    """``name`` with what MLflow refuses in a metric's name replaced.

    >>> metric_name("NDCG@10"), metric_name("p50 (ms)"), metric_name("/a//b/")
    ('NDCG_at_10', 'p50 _ms_', 'a/b')
    """
    plain = _REFUSED.sub("_", name.replace("@", "_at_"))
    parts = [part for part in plain.split("/") if part.strip(". ")]
    return "/".join(parts)[:250] or "_"


def flat_numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Every number and boolean of a nested mapping, by ``outer/inner`` metric name.

    >>> flat_numbers({"rows": 3, "mae": {"support@5": 0.7}, "name": "x", "reused": True})
    {'rows': 3.0, 'mae/support_at_5': 0.7, 'reused': 1.0}
    """
    return {
        metric_name("/".join(path)): float(value)
        for path, value in _leaves(values)
        if isinstance(value, int | float)
    }


def flat_params(settings: BaseModel | Mapping[str, Any]) -> dict[str, str]:
    """Every setting of a tree, by dotted name.

    >>> flat_params({"training": {"learners": ["bias"], "threads": 2}})
    {'training.learners': '["bias"]', 'training.threads': '2'}
    """
    tree = settings.model_dump(mode="json") if isinstance(settings, BaseModel) else settings
    return {
        _REFUSED.sub("_", ".".join(path)): shortened(_text(value)) for path, value in _leaves(tree)
    }


def shortened(text: str) -> str:
    """``text``, or its beginning and the hash of the whole if it is longer than MAX_VALUE."""
    if len(text) <= MAX_VALUE:
        return text
    ending = f"... (sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]})"
    return text[: MAX_VALUE - len(ending)] + ending


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, default=str, ensure_ascii=False)


def _leaves(tree: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[Any, Any]]:
    for name, entry in tree.items():
        path = (*above, str(name))
        value = entry.model_dump(mode="json") if isinstance(entry, BaseModel) else entry
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, path)
        else:
            yield path, value
