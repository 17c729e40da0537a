"""What a learner fitted on one dataset hands to the same learner on another."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from metarec_core.episodes.types import TaskData
from metarec_core.errors import ModelError
from metarec_core.learners.base import Learner

_DIMENSION = ":svd"


@dataclass(frozen=True, slots=True)
class Names:
    """What columns and items of a dataset are called.

    Attributes:
        item_columns: Encoded features of items, such as ``genres=Comedy``, ``[Fi]``.
        user_columns: Encoded features of users, ``[Fu]``.
        titles: Title of each catalogue item, None where it has none, ``[I]``.
    """

    item_columns: tuple[str, ...]
    user_columns: tuple[str, ...]
    titles: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Knowledge:
    """A fitted learner with the names by which others may know what it knows.

    Attributes:
        learner: The fitted learner.
        data: The tasks that it was trained on.
        names: Names of their columns and items.
    """

    learner: Learner
    data: TaskData
    names: Names


@dataclass(frozen=True, slots=True)
class Pairs:
    """Places of what two datasets share, one pair a row.

    Attributes:
        target: Places in the target, ``[P]``, ascending.
        source: Places in the source, ``[P]``.
    """

    target: Tensor
    source: Tensor

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True, slots=True)
class Start:
    """Where a learner's training begins.

    Attributes:
        knowledge: The source; None: from scratch, but with no item of the catalogue taken for new.
        item_columns: Features of items that both datasets have.
        user_columns: Features of users that both have.
        items: Items that both have.
        popularity_users: How many target users the choices of all source users count for, in
            the popularity of items that both have.
    """

    knowledge: Knowledge | None
    item_columns: Pairs
    user_columns: Pairs
    items: Pairs
    popularity_users: float = 50.0

    @classmethod
    def from_scratch(cls) -> Start:
        """No source: what is left is that an item which no training user met is not new."""
        nothing = _pairs([], [])
        return cls(None, nothing, nothing, nothing)


@runtime_checkable
class WarmStartable(Protocol):
    """A learner whose training can begin where that of another one ended."""

    def start_from(self, start: Start | None) -> None:
        """Begin the next ``fit`` there; None: from scratch.

        Raises:
            ModelError: If the source is a learner of another kind or shape.
        """
        ...


def match(
    knowledge: Knowledge, names: Names, *, match_items: bool, popularity_users: float = 50.0
) -> Start:
    """Pair what a source knows with what a target has, by feature name and value, and by title.

    A column of a category carries both in its name (``genres=Comedy``), a number its name
    (``year``). Dimensions of a text mean another thing in each dataset and are never paired.

    Args:
        knowledge: The fitted source.
        names: Columns and items of the target.
        match_items: Whether items of the same title are the same item.
        popularity_users: See :class:`Start`.

    Raises:
        ModelError: If nothing is shared.
    """
    own = knowledge.names
    start = Start(
        knowledge=knowledge,
        item_columns=_pairs(_comparable(own.item_columns), _comparable(names.item_columns)),
        user_columns=_pairs(_comparable(own.user_columns), _comparable(names.user_columns)),
        items=_pairs(_known(own.titles), _known(names.titles)) if match_items else _pairs([], []),
        popularity_users=popularity_users,
    )
    if not (len(start.item_columns) or len(start.user_columns) or len(start.items)):
        raise ModelError(
            f"start of a learner from a fitted {knowledge.learner.name}",
            found="no feature value and no title that both datasets have",
            wanted="a feature of the same name with the same values, such as genres",
            next_step="name the features alike in both descriptors (metarec data list), or give "
            "both a title column",
        )
    return start


def normalised(title: str) -> str:
    """A title without case, accents and punctuation; what is left in brackets, as a year, counts.

    >>> normalised("Misérables, Les  (1995)")
    'miserables les 1995'
    """
    plain = unicodedata.normalize("NFKD", title.casefold())
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return " ".join(re.findall(r"\w+", plain))


def feature_of(column: str) -> str:
    """The feature that an encoded column belongs to.

    >>> feature_of("genres=Comedy"), feature_of("year:missing"), feature_of("year")
    ('genres', 'year', 'year')
    """
    return re.split("[=:]", column, maxsplit=1)[0]


def comparable(column: str) -> bool:
    """Whether a column of that name means the same in every dataset."""
    return "=" in column or _DIMENSION not in column


def _comparable(columns: Sequence[str]) -> list[str | None]:
    return [column if comparable(column) else None for column in columns]


def _known(titles: Sequence[str | None]) -> list[str | None]:
    """Normalised titles; None where an item has none, or shares it with another item."""
    plain = [normalised(title) if title else None for title in titles]
    count = Counter(plain)
    return [title if title and count[title] == 1 else None for title in plain]


def _pairs(source: Sequence[str | None], target: Sequence[str | None]) -> Pairs:
    places = {name: place for place, name in enumerate(source) if name is not None}
    found = [
        (place, places[name])
        for place, name in enumerate(target)
        if name is not None and name in places
    ]
    table = torch.tensor(found, dtype=torch.int64).reshape(-1, 2)
    return Pairs(table[:, 0], table[:, 1])
