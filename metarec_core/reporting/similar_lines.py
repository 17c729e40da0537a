"""Similar items and similar users as lines of text."""

from __future__ import annotations

import polars as pl

from metarec_core.reporting.words import readable_title
from metarec_core.schema import Columns


def similar_item_lines(title: str, found: pl.DataFrame) -> list[str]:
    """The nearest of one item.

    Args:
        title: The item's title.
        found: ``SIMILAR_ITEMS_SCHEMA``.
    """
    if found.is_empty():
        return [f"Nothing is like {readable_title(title)}."]
    source = found["source"][0]
    by = "by their features" if source == "features" else f"by the vectors of learner {source}"
    lines = [f"Most like {readable_title(title)}, {by} (cosine, 1 is the same):"]
    width = len(str(found[Columns.RANK].max()))
    for row in found.iter_rows(named=True):
        shown = readable_title(row["similar_title"] or row["similar_item_id"])
        lines.append(f"{row[Columns.RANK]:>{width}}. {row['similarity']:+.3f}  {shown}")
    return lines


def similar_user_lines(user_id: str, found: pl.DataFrame) -> list[str]:
    """The nearest of one user.

    Args:
        user_id: The user.
        found: ``SIMILAR_USERS_SCHEMA``.
    """
    if found.is_empty():
        return [f"There is nobody to compare user {user_id} with."]
    lines = [f"Users whose tastes are most like those of user {user_id} (cosine, 1 is the same):"]
    width = len(str(found[Columns.RANK].max()))
    return lines + [
        f"{row[Columns.RANK]:>{width}}. {row['similarity']:+.3f}  user {row['similar_user_id']}"
        for row in found.iter_rows(named=True)
    ]
