"""Sparse rows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.integers(0, 12), min_size=1, max_size=12), st.data())
def test_selecting_rows_equals_selecting_from_lists(make_data, counts: list[int], draw) -> None:
    matrix = make_data(counts).interactions
    rows = [
        list(matrix.items[start:stop])
        for start, stop in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)
    ]
    picked = draw.draw(st.lists(st.integers(0, len(counts) - 1), max_size=10))
    part = matrix.select(np.array(picked, dtype=np.int64))
    found = [
        list(part.items[start:stop])
        for start, stop in zip(part.indptr[:-1], part.indptr[1:], strict=True)
    ]
    assert found == [rows[row] for row in picked]
