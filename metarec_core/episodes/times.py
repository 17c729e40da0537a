"""When interactions took place, as tasks hold it."""

from __future__ import annotations

import numpy as np
import polars as pl

from metarec_core.episodes.types import IntArray
from metarec_core.schema import Columns


def times_of(interactions: pl.DataFrame) -> IntArray | None:
    """Seconds since 1970 of each row; None if they are not known of all rows."""
    if Columns.TIME not in interactions.columns or interactions[Columns.TIME].null_count():
        return None
    return interactions[Columns.TIME].to_numpy().astype(np.int64)
