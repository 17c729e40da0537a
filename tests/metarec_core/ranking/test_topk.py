import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from metarec_core.ranking.topk import top_k


def brute_force(scores: np.ndarray, k: int) -> np.ndarray:
    columns = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    return np.lexsort((columns, -scores), axis=1)[:, :k]


@given(
    scores=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.integers(1, 40)),
        elements=st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0, 3.0]),
    ),
    k=st.integers(1, 45),
)
def test_ties_go_to_the_lower_column(scores: np.ndarray, k: int) -> None:
    best = top_k(torch.from_numpy(scores), k)

    expected = brute_force(scores, k)
    assert np.array_equal(best.indices.numpy(), expected)
    assert np.array_equal(best.values.numpy(), np.take_along_axis(scores, expected, axis=1))


@pytest.mark.parametrize("levels", [3, 50, 10**6])
@pytest.mark.parametrize("n", [8192, 9001])
@pytest.mark.parametrize("k", [1, 10, 100])
def test_long_rows_give_the_same_answer(n: int, k: int, levels: int) -> None:
    rng = np.random.default_rng(n + k + levels)
    scores = rng.integers(0, levels, size=(7, n)).astype(np.float32)
    scores[1, 3:] = -np.inf
    scores[2] = np.sort(scores[2])

    best = top_k(torch.from_numpy(scores), k)

    assert np.array_equal(best.indices.numpy(), brute_force(scores, k))


def test_the_scores_are_left_alone() -> None:
    scores = torch.randn(3, 100)
    before = scores.clone()
    top_k(scores, 5)
    assert torch.equal(scores, before)
