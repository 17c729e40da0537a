"""The rules document: a small YAML that says what every list must obey."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml
from pydantic import Field, model_validator

from metarec_core.errors import ConfigError
from metarec_core.ingest.hints import did_you_mean, listing
from metarec_core.section import Section

LARGEST_DOCUMENT = 1 << 20
"""Most bytes of a rules document; what is longer belongs in the table."""

MOST_RULED = 62
"""Most categories that caps and quotas name together: each is one bit of a signed integer."""

_Name = Annotated[str, Field(min_length=1, max_length=500)]


class ConsumedAfter(Section):
    """An interacted item may come back."""

    after_days: int = Field(ge=1, le=36_500, strict=True)
    """Days after which it may be shown again: at 00:00 UTC of the run date, the user's latest
    interaction with it must be at least that old."""


class RulesDocument(Section):
    """Rules of all lists, and where the rules of single items, users and segments stand."""

    table: str | None = Field(None, min_length=1, max_length=4096)
    """Rules table, CSV or Parquet, relative to this document; null: none."""

    consumed: Literal["never", "allowed"] | ConsumedAfter = "never"
    """Whether an item may be shown to a user who has interacted with it: ``never``, ``allowed``,
    or ``{after_days: N}``."""

    min_age_days: int | None = Field(None, ge=1, le=36_500, strict=True)
    """Days that an item must have been known at 00:00 UTC of the run date; null: any age."""

    age_from: _Name | None = None
    """Numeric item feature that holds since when an item is known, in seconds since 1970; null:
    since the first interaction that anyone had with it."""

    unknown_age: Literal["closed", "open"] = "closed"
    """Whether an item of unknown age may be shown where there is a least age."""

    categories: _Name | None = None
    """Item feature, ``multi`` or ``categorical``, that caps and quotas speak of."""

    caps: dict[_Name, Annotated[int, Field(ge=0, le=1000, strict=True)]] = Field(
        default_factory=dict, max_length=MOST_RULED
    )
    """Most entries of a category in a list; 0 closes the category. An entry with several
    categories counts in each."""

    quotas: dict[_Name, Annotated[int, Field(ge=1, le=1000, strict=True)]] = Field(
        default_factory=dict, max_length=MOST_RULED
    )
    """Fewest entries of a category in a list."""

    unknown_items: Literal["warn", "error"] = "warn"
    """What a rule about an item that the catalogue does not hold leads to. An allow row of such an
    item opens nothing, and still closes all that is not allowed to those whom it reaches; an allow
    list of a user, of a segment or for everyone that names no other items is always an error."""

    @property
    def ruled(self) -> tuple[str, ...]:
        """Categories with a cap or a quota, sorted."""
        return tuple(sorted({*self.caps, *self.quotas}))

    @property
    def consumed_after_days(self) -> int | None:
        """Days after which an interacted item may come back; 0: at once, None: never."""
        if isinstance(self.consumed, ConsumedAfter):
            return self.consumed.after_days
        return 0 if self.consumed == "allowed" else None

    @model_validator(mode="after")
    def _consistent(self) -> RulesDocument:
        if self.ruled and self.categories is None:
            raise ValueError("'categories' names the item feature that caps and quotas speak of")
        if len(self.ruled) > MOST_RULED:
            raise ValueError(f"at most {MOST_RULED} categories with a cap or a quota")
        if self.age_from is not None and self.min_age_days is None:
            raise ValueError("'min_age_days' beside 'age_from', which says nothing without it")
        for name, quota in self.quotas.items():
            cap = self.caps.get(name, quota)
            if quota > cap:
                raise ValueError(
                    f"a quota no larger than the cap of the same category; {name!r} has "
                    f"quota {quota} and cap {cap}"
                )
        return self


def read_document(path: Path) -> RulesDocument:
    """Read a rules document.

    The YAML is read by a safe loader, which builds nothing but plain values; a key written twice
    and an alias are refused too: the one hides a contradiction, the other may unfold without end.

    Raises:
        ConfigError: If the file cannot be read, or a field is unknown, out of bounds or
            contradicts another; the message names the file and the field.
    """
    try:
        return RulesDocument.model_validate(_tree(path))
    except pydantic.ValidationError as error:
        raise _as_config_error(path, error) from error


def _tree(path: Path) -> Any:
    subject = f"rules document {path}"
    try:
        size = path.stat().st_size
        if size > LARGEST_DOCUMENT:
            raise ConfigError(
                subject,
                found=f"{size} bytes",
                wanted=f"at most {LARGEST_DOCUMENT}",
                next_step="move rules of single items and users into the rules table",
            )
        tree = _StrictLoader(path.read_text(encoding="utf-8-sig")).get_single_data()
    # A ValueError: text that is not UTF-8, or what looks like a date or a number and is none.
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(
            subject,
            found=f"{type(error).__name__}: {' '.join(str(error).split())}",
            wanted="a readable YAML file of plain values, each key once, without aliases",
            next_step="correct recommend.rules, or the file at the place named",
        ) from error
    if tree is not None and not isinstance(tree, dict):
        raise ConfigError(
            subject,
            found=f"a {type(tree).__name__} at the top",
            wanted="a mapping of settings such as 'consumed: never'",
            next_step=f"write settings out of {listing(RulesDocument.model_fields)}",
        )
    return tree or {}


class _StrictLoader(yaml.SafeLoader):
    """A safe loader without aliases and without repeated keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "found an alias", self.get_mark())
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # refused by the safe loader itself
            if key in keys:
                raise yaml.constructor.ConstructorError(
                    None, None, f"found the key {key!r} twice", key_node.start_mark
                )
            keys.add(key)
        return super().construct_mapping(node, deep)


def _as_config_error(path: Path, error: pydantic.ValidationError) -> ConfigError:
    # Of the two forms of 'consumed' the one is reported that was meant.
    details = [
        detail
        for detail in error.errors(include_url=False)
        if not (detail["type"] == "literal_error" and isinstance(detail["input"], Mapping))
        and not (detail["type"] == "model_type" and detail["loc"][0] == "consumed")
    ]
    detail = (details or error.errors(include_url=False))[0]
    place = [str(part) for part in detail["loc"] if part not in ("ConsumedAfter", "[key]")]
    if place[:1] == ["consumed"]:
        place = [part for part in place if not part.startswith("literal[")]
    subject = f"rules document {path}, setting {'.'.join(place) or 'the whole'}"
    if detail["type"] == "extra_forbidden":
        beside = ConsumedAfter if place[0] == "consumed" else RulesDocument
        return ConfigError(
            subject,
            found="a name that does not exist",
            wanted=f"one of {listing(beside.model_fields)}",
            next_step=f"{did_you_mean(place[-1], beside.model_fields)}rename or remove it",
        )
    wanted = str(detail["msg"]).removeprefix("Value error, ")
    if place == ["consumed"]:
        wanted = "never, allowed or {after_days: N}"
    found = "a contradiction" if detail["type"] == "value_error" else repr(detail["input"])
    return ConfigError(
        subject,
        found=found if len(found) <= 200 else f"{found[:200]}...",
        wanted=wanted,
        next_step="correct it; a name that YAML reads as a number or as yes/no needs quotes"
        if detail["type"] == "string_type"
        else "correct it and run again",
    )
