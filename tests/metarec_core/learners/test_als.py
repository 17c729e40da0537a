"""Batched ridge regressions against one at a time, and implicit ALS against its objective."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from metarec_core.learners import als
from metarec_core.learners.als import Entries, ImplicitProblem, implicit_als, ridge_rows

CPU = torch.device("cpu")
N_ROWS, N_COLUMNS, DIM = 30, 20, 4


@pytest.fixture(scope="module")
def dense() -> tuple[np.ndarray, np.ndarray]:
    """Weights ``[R, C]`` (0 where nothing is observed; row 3 and column 5 empty) and targets."""
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 2.0, (N_ROWS, N_COLUMNS)) * (rng.random((N_ROWS, N_COLUMNS)) < 0.3)
    weights[3], weights[:, 5] = 0.0, 0.0
    return weights, rng.normal(size=(N_ROWS, N_COLUMNS))


def entries_of(weights: np.ndarray, targets: np.ndarray) -> Entries:
    rows, columns = np.nonzero(weights)
    shuffled = np.random.default_rng(1).permutation(len(rows))
    rows, columns = rows[shuffled], columns[shuffled]
    return Entries.of(
        rows, columns, weights[rows, columns], targets[rows, columns], len(weights), CPU
    )


@pytest.mark.parametrize("budget", [2**18, 150, 1])
def test_each_row_is_the_weighted_ridge_of_scikit_learn(
    dense, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(als, "_NUMBERS_AT_ONCE", budget)
    weights, targets = dense
    vectors = np.random.default_rng(2).normal(size=(N_COLUMNS, DIM))
    ridge = np.linspace(0.5, 3.0, N_ROWS)
    solved = ridge_rows(
        entries_of(weights, targets),
        torch.from_numpy(vectors),
        torch.zeros(DIM, DIM, dtype=torch.float64),
        torch.from_numpy(ridge),
    )
    for row in range(N_ROWS):
        seen = weights[row] > 0
        if not seen.any():
            assert (solved[row] == 0).all()
            continue
        model = Ridge(alpha=ridge[row], fit_intercept=False, solver="cholesky")
        model.fit(vectors[seen], targets[row, seen], sample_weight=weights[row, seen])
        np.testing.assert_allclose(solved[row], model.coef_, atol=1e-9)


def test_base_and_a_ridge_by_dimension_enter_the_normal_matrix(dense) -> None:
    weights, targets = dense
    vectors = torch.randn(N_COLUMNS, DIM, generator=torch.Generator().manual_seed(3)).double()
    base = vectors.mT @ vectors
    ridge = torch.arange(1.0, DIM + 1).double().expand(N_ROWS, -1)
    solved = ridge_rows(entries_of(weights, targets), vectors, base, ridge)
    v = vectors.numpy()
    for row in range(N_ROWS):
        c = np.diag(weights[row])
        matrix = base.numpy() + np.diag(np.arange(1.0, DIM + 1)) + v.T @ c @ v
        wanted = np.linalg.solve(matrix, v.T @ c @ targets[row])
        np.testing.assert_allclose(solved[row], wanted, atol=1e-9)


def test_batches_hold_every_row_once_within_the_budget(
    dense, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(als, "_NUMBERS_AT_ONCE", 100)
    entries = entries_of(*dense)
    met: list[int] = []
    for rows, positions, mask in entries.batches(DIM):
        assert len(rows) == 1 or positions.numel() * DIM <= 100
        assert len(rows) == 1 or len(rows) * DIM * DIM <= 100
        met += rows.tolist()
        assert mask.sum(dim=1).tolist() == entries.counts[rows.numpy()].tolist()
    assert sorted(met) == list(range(N_ROWS))


def objective(problem: ImplicitProblem, votes: np.ndarray, w: np.ndarray, v: np.ndarray) -> float:
    """The sum over all pairs, written out."""
    scores = w @ v.T
    n_users, n_items = ((votes > 0).any(axis=axis).sum() for axis in (1, 0))
    of_users = problem.ridge(torch.tensor((votes > 0).sum(axis=1)), int(n_items)).numpy()
    of_items = problem.ridge(torch.tensor((votes > 0).sum(axis=0)), int(n_users)).numpy()
    return float(
        (votes * (1 - scores) ** 2).sum()
        + problem.unobserved * (scores**2).sum()
        + (of_users * (w**2).sum(axis=1)).sum()
        + (of_items * (v**2).sum(axis=1)).sum()
    )


@pytest.mark.parametrize("nu", [0.0, 1.0])
def test_each_turn_descends_the_objective_and_none_is_left_at_the_end(dense, nu: float) -> None:
    votes, _ = dense
    problem = ImplicitProblem(unobserved=0.1, reg=0.02, nu=nu)
    targets = np.ones_like(votes)
    by_user, by_item = entries_of(votes, targets), entries_of(votes.T, targets.T)

    def after(sweeps: int) -> np.ndarray:
        return implicit_als(
            by_user,
            by_item,
            problem,
            dim=DIM,
            sweeps=sweeps,
            generator=torch.Generator().manual_seed(0),
            after_sweep=lambda *_: None,
        ).numpy()

    losses = []
    for sweeps in (1, 2, 5, 500):
        v = after(sweeps)
        assert (v[5] == 0).all()
        w = problem.solve(by_user, torch.from_numpy(v), N_COLUMNS - 1).numpy()
        losses.append(objective(problem, votes, w, v))
    assert losses == sorted(losses, reverse=True)
    rng = np.random.default_rng(4)
    for _ in range(20):
        step_w, step_v = rng.normal(size=w.shape) * 1e-3, rng.normal(size=v.shape) * 1e-3
        assert objective(problem, votes, w + step_w, v) > losses[-1]
        assert objective(problem, votes, w, v + step_v) > losses[-1]


def test_progress_is_told_turn_by_turn(dense) -> None:
    votes, _ = dense
    targets = np.ones_like(votes)
    told: list[tuple[int, float]] = []
    implicit_als(
        entries_of(votes, targets),
        entries_of(votes.T, targets.T),
        ImplicitProblem(0.1, 0.02, 1.0),
        dim=DIM,
        sweeps=30,
        generator=torch.Generator().manual_seed(0),
        after_sweep=lambda *seen: told.append(seen),
    )
    assert [turn for turn, _ in told] == list(range(1, 31))
    assert told[-1][1] < told[1][1]
