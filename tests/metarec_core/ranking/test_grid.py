import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from metarec_core.ranking.grid import on_grid

FIGURES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


@given(FIGURES)
def test_figures_stay_within_a_millionth(figures: list[float]) -> None:
    array = np.array(figures)
    assert np.abs(on_grid(array) - array).max() <= 2**-21
    assert np.array_equal(on_grid(on_grid(array)), on_grid(array))
    assert np.array_equal(on_grid(torch.from_numpy(array)).numpy(), on_grid(array))


@given(FIGURES, st.randoms(use_true_random=False))
def test_sums_do_not_depend_on_their_order(figures: list[float], random) -> None:
    settled = on_grid(np.array(figures)).tolist()
    shuffled = settled.copy()
    random.shuffle(shuffled)
    assert sum(settled) == sum(shuffled)


def test_what_is_no_number_stays() -> None:
    odd = np.array([np.nan, np.inf, -np.inf])
    assert np.array_equal(on_grid(odd), odd, equal_nan=True)
