"""EM for the prior of many regressions, against densities written out."""

import numpy as np
import torch
from scipy.stats import multivariate_normal

from metarec_core.learners.als import Entries
from metarec_core.learners.empirical_bayes import Prior, learn_prior, posteriors

CPU = torch.device("cpu")
DIM = 3
TRUE_MEAN = np.array([1.0, -0.5, 0.2])
TRUE_COVARIANCE = np.array([[0.8, 0.3, 0.0], [0.3, 0.5, -0.1], [0.0, -0.1, 0.3]])
TRUE_NOISE = 0.25


def planted(n_rows: int, seed: int = 0) -> tuple[Entries, torch.Tensor]:
    """Regressions with 0 to 12 entries each on shared columns; every tenth row is empty."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(40, DIM))
    weights = rng.multivariate_normal(TRUE_MEAN, TRUE_COVARIANCE, size=n_rows)
    counts = rng.integers(1, 13, size=n_rows)
    counts[::10] = 0
    rows = np.repeat(np.arange(n_rows), counts)
    columns = rng.integers(40, size=len(rows))
    noise = rng.normal(scale=TRUE_NOISE**0.5, size=len(rows))
    y = (weights[rows] * vectors[columns]).sum(axis=1) + noise
    return (
        Entries.of(rows, columns, np.ones(len(rows)), y, n_rows, CPU),
        torch.from_numpy(vectors),
    )


def start() -> Prior:
    return Prior(
        torch.zeros(DIM).double(), torch.eye(DIM).double(), torch.tensor(1.0, dtype=torch.float64)
    )


def of_row(entries: Entries, vectors: torch.Tensor, row: int) -> tuple[np.ndarray, np.ndarray]:
    mine = slice(entries.indptr[row], entries.indptr[row + 1])
    return vectors[entries.columns[mine]].numpy(), entries.targets[mine].numpy()


def log_likelihood(entries: Entries, vectors: torch.Tensor, prior: Prior) -> float:
    """Density of each row's targets with its regression integrated out."""
    total = 0.0
    for row in np.flatnonzero(entries.counts):
        v, y = of_row(entries, vectors, row)
        covariance = v @ prior.covariance.numpy() @ v.T + float(prior.noise) * np.eye(len(y))
        total += multivariate_normal.logpdf(y, v @ prior.mean.numpy(), covariance)
    return total


def posterior_of(v: np.ndarray, y: np.ndarray, prior: Prior) -> tuple[np.ndarray, np.ndarray]:
    inverse, beta = np.linalg.inv(prior.covariance.numpy()), 1.0 / float(prior.noise)
    covariance = np.linalg.inv(inverse + beta * v.T @ v)
    return covariance @ (inverse @ prior.mean.numpy() + beta * v.T @ y), covariance


def test_a_step_is_that_of_the_textbook() -> None:
    entries, vectors = planted(60)
    before = learn_prior(entries, vectors, start(), 2)
    after = learn_prior(entries, vectors, start(), 3)
    rows = np.flatnonzero(entries.counts)
    found = [posterior_of(*of_row(entries, vectors, row), before) for row in rows]
    mean = np.mean([w for w, _ in found], axis=0)
    second = np.mean([c + np.outer(w - mean, w - mean) for w, c in found], axis=0)
    squares = 0.0
    for row, (w, c) in zip(rows, found, strict=True):
        v, y = of_row(entries, vectors, row)
        squares += ((y - v @ w) ** 2).sum() + np.trace(v @ c @ v.T)
    np.testing.assert_allclose(after.mean, mean, atol=1e-9)
    np.testing.assert_allclose(after.covariance, second, atol=2e-6)
    np.testing.assert_allclose(after.noise, squares / len(entries.targets), atol=1e-9)


def test_every_step_raises_the_likelihood() -> None:
    entries, vectors = planted(80)
    likelihoods = [
        log_likelihood(entries, vectors, learn_prior(entries, vectors, start(), steps))
        for steps in (0, 1, 2, 5, 20)
    ]
    assert likelihoods == sorted(likelihoods)
    assert likelihoods[-1] > likelihoods[0] + 10


def test_the_planted_prior_is_found() -> None:
    entries, vectors = planted(4000)
    prior = learn_prior(entries, vectors, start(), 60)
    np.testing.assert_allclose(prior.mean, TRUE_MEAN, atol=0.05)
    np.testing.assert_allclose(prior.covariance, TRUE_COVARIANCE, atol=0.07)
    np.testing.assert_allclose(prior.noise, TRUE_NOISE, atol=0.01)


def test_posteriors_are_each_row_s_regression_and_its_open_variance() -> None:
    entries, vectors = planted(40)
    prior = learn_prior(entries, vectors, start(), 5)
    probe = torch.diag(torch.tensor([1.0, 2.0, 0.5])).double()
    means, spread = posteriors(entries, vectors, prior, probe)
    for row in range(40):
        w, c = posterior_of(*of_row(entries, vectors, row), prior)
        np.testing.assert_allclose(means[row], w, atol=1e-9)
        np.testing.assert_allclose(spread[row], np.trace(c @ probe.numpy()), atol=1e-9)
    # A row without entries is the prior.
    np.testing.assert_allclose(means[0], prior.mean, atol=1e-9)


def test_targets_that_are_all_alike_leave_variances_above_zero() -> None:
    entries, vectors = planted(50)
    constant = entries.with_targets(torch.zeros_like(entries.targets))
    prior = learn_prior(constant, vectors, start(), 50)
    assert float(prior.noise) > 0
    assert (torch.linalg.eigvalsh(prior.covariance) > 0).all()
