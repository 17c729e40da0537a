"""Find an item by what a person types: its id, its title, or a part of the title."""

from __future__ import annotations

import difflib
import re
import unicodedata

import polars as pl

from metarec_core.errors import DatasetError
from metarec_core.reporting.words import readable_title
from metarec_core.schema import Columns

_MOST = 8
"""Titles that an error names."""


def find_item(catalogue: pl.DataFrame, text: str) -> int:
    """Catalogue index of the item that ``text`` means.

    An id counts before a title, a whole title before a part of one. Case, accents, punctuation and
    the place of an article do not matter.

    Args:
        catalogue: ``item_id`` and ``title`` in catalogue order.
        text: What was typed.

    Raises:
        DatasetError: If no item has such an id or title, or several titles hold the text.
    """
    by_id = (catalogue[Columns.ITEM] == text).arg_true()
    if len(by_id):
        return int(by_id[0])
    titles = catalogue[Columns.TITLE].fill_null("").to_list()
    plain = [{_plain(title), _plain(readable_title(title))} for title in titles]
    wanted = _plain(text)
    whole = [row for row, names in enumerate(plain) if wanted and wanted in names]
    parts = [
        row
        for row, names in enumerate(plain)
        if wanted and any(f" {wanted} " in f" {name} " for name in names)
    ]
    for found in (whole, parts):
        if len(found) == 1:
            return found[0]
        if found:
            raise _ambiguous(catalogue, text, found)
    raise _unknown(catalogue, text, [next(iter(sorted(names))) for names in plain])


def _plain(title: str) -> str:
    letters = unicodedata.normalize("NFKD", title.casefold())
    kept = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return " ".join(re.findall(r"\w+", kept))


def _described(catalogue: pl.DataFrame, rows: list[int]) -> str:
    shown = catalogue[rows[:_MOST]].select(Columns.ITEM, Columns.TITLE).rows()
    names = [f"{item} ({readable_title(title)})" if title else item for item, title in shown]
    more = len(rows) - _MOST
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")


def _ambiguous(catalogue: pl.DataFrame, text: str, rows: list[int]) -> DatasetError:
    return DatasetError(
        f"item {text!r}",
        found=f"{len(rows)} items: {_described(catalogue, rows)}",
        wanted="the id or the title of one item",
        next_step="give one of these ids, or more of the title",
    )


def _unknown(catalogue: pl.DataFrame, text: str, plain: list[str]) -> DatasetError:
    close = difflib.get_close_matches(_plain(text), plain, n=3)
    rows = sorted({plain.index(title) for title in close})
    return DatasetError(
        f"item {text!r}",
        found=f"none of the {len(catalogue)} items of the model",
        wanted="an item's id, or its title or a part of that"
        + (f", such as {_described(catalogue, rows)}" if rows else ""),
        next_step="correct it; an item that the model has not met has no neighbours",
    )
