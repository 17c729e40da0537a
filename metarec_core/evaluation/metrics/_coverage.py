"""How much of the catalogue lists show."""

from __future__ import annotations

import polars as pl


def catalogue_coverage(lists: pl.Expr, catalogue_size: pl.Expr) -> pl.Expr:
    """Share of the catalogue that at least one of a group's lists holds.

    Its greatest possible value is ``lists * k / catalogue size``: compare learners on the same
    tasks only. Popularity shows little more than ``k`` items.

    Args:
        lists: Catalogue indices of each list, one ``List`` row a task.
        catalogue_size: The number of catalogue items, the same in each row.

    Returns:
        An aggregation to one float in [0, 1] a group; an empty catalogue gives NaN.
    """
    shown = lists.list.explode().drop_nulls().n_unique()
    return shown / catalogue_size.first()
