"""What a dataset's descriptor says about one feature."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from metarec_core.schema import FeatureKind
from metarec_core.section import Section


class FeatureSpec(Section):
    """Where a feature comes from and how it is treated."""

    column: str = Field(min_length=1)
    """Column of the source that holds it."""

    kind: FeatureKind
    """``categorical``, ``numeric``, ``multi`` (several categories in one cell) or ``text``."""

    separator: str = Field("|", min_length=1)
    """What stands between the categories of a ``multi`` cell, or the parts of a text's terms."""

    terms: Literal["words", "parts"] = "words"
    """What a ``text`` is made of: its words, or the parts between separators as a whole, such as
    names; a remark in round brackets belongs to no part."""

    dimensions: int | None = Field(None, ge=1, le=512)
    """Most dimensions that a ``text`` is reduced to; null for the encoder's default (32)."""

    pattern: str | None = None
    """Regular expression with one group; the group is the value, no match is a missing value."""

    @field_validator("pattern")
    @classmethod
    def _one_group(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        if groups != 1:
            raise ValueError(f"{groups} groups; wanted exactly one, such as '\\((\\d{{4}})\\)'")
        return pattern
