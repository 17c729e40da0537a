"""The base of every group of settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from metarec_core.search import Distribution


class Section(BaseModel):
    """A frozen group of settings that refuses names it does not know.

    Attributes:
        search: What tuning may try, by dotted path of the field inside of the section.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    search: ClassVar[Mapping[str, Distribution]] = {}

    def changed(self, values: Mapping[str, Any]) -> Self:
        """The same settings with some of them replaced.

        Args:
            values: A tree of new values; whatever it does not name stays.

        Raises:
            pydantic.ValidationError: If a value is out of bounds or a name unknown.
        """
        return type(self).model_validate(_merged(self.model_dump(), values))


def _merged(tree: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(tree)
    for name, value in over.items():
        inner = merged.get(name)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        merged[name] = _merged(inner, value) if both and inner is not None else value
    return merged
