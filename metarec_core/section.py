"""The base of every group of settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from metarec_core.search import Distribution


class Section(BaseModel):
    """A frozen group of settings that refuses names it does not know.

    Attributes:
        search: What tuning may try, by dotted path of the field inside of the section.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    search: ClassVar[Mapping[str, Distribution]] = {}
