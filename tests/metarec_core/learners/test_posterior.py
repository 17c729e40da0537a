"""The closed form against textbook algebra and refits, in float64."""

import torch
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from metarec_core.learners.posterior import Gram, InverseCholesky, Lifts, Posterior

TORCH = {"dtype": torch.float64}


def problem(b: int = 3, s: int = 6, d: int = 4, seed: int = 0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(b, d, d, generator=generator, **TORCH)
    mask = torch.rand(b, s, generator=generator) < 0.8
    mask[:, 0] = True
    return {
        "vectors": torch.randn(b, s, d, generator=generator, **TORCH),
        "targets": torch.randn(b, s, generator=generator, **TORCH),
        "noise_precision": torch.rand(b, s, generator=generator, **TORCH) + 0.5,
        "mask": mask,
        "prior_mean": torch.randn(b, d, generator=generator, **TORCH),
        "prior_precision": root @ root.mT + torch.eye(d, **TORCH),
    }


def test_mean_and_covariance_are_bishop_s() -> None:
    given = problem()
    posterior = Posterior.of(**given)
    for row in range(3):
        real = given["mask"][row]
        v, y = given["vectors"][row, real], given["targets"][row, real]
        beta = given["noise_precision"][row, real]
        precision = given["prior_precision"][row] + v.T @ torch.diag(beta) @ v
        mean = torch.linalg.solve(
            precision, given["prior_precision"][row] @ given["prior_mean"][row] + v.T @ (beta * y)
        )
        torch.testing.assert_close(posterior.mean[row], mean, atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(
            posterior.covariance[row], torch.linalg.inv(precision), atol=1e-12, rtol=1e-12
        )


def test_without_support_it_is_the_prior() -> None:
    given = problem() | {"mask": torch.zeros(3, 6, dtype=torch.bool)}
    posterior = Posterior.of(**given)
    torch.testing.assert_close(posterior.mean, given["prior_mean"], atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(
        posterior.covariance, torch.linalg.inv(given["prior_precision"]), atol=1e-12, rtol=1e-12
    )


def test_variance_is_the_quadratic_form_for_one_set_a_user_or_one_for_all() -> None:
    posterior = Posterior.of(**problem())
    items = torch.randn(5, 4, generator=torch.Generator().manual_seed(1), **TORCH)
    wanted = torch.einsum("kd,bde,ke->bk", items, posterior.covariance, items)
    torch.testing.assert_close(posterior.variance(items), wanted, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(
        posterior.variance(items.expand(3, -1, -1)), wanted, atol=1e-12, rtol=1e-12
    )


def test_shares_sum_to_the_prediction() -> None:
    given = problem()
    posterior = Posterior.of(**given)
    items = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(2), **TORCH)
    prior, support = posterior.shares(items)
    assert support.shape == (3, 5, 6)
    assert (support.movedim(1, 2)[~given["mask"]] == 0).all()
    torch.testing.assert_close(
        prior + support.sum(-1),
        (items @ posterior.mean.unsqueeze(-1)).squeeze(-1),
        atol=1e-12,
        rtol=1e-12,
    )


def test_leaving_one_out_has_the_closed_form_of_the_design() -> None:
    given = problem() | {"mask": torch.ones(3, 6, dtype=torch.bool)}
    full = Posterior.of(**given)
    item = torch.randn(3, 4, generator=torch.Generator().manual_seed(3), **TORCH)
    for left_out in range(6):
        mask = given["mask"].clone()
        mask[:, left_out] = False
        refit = Posterior.of(**(given | {"mask": mask}))
        v_s = given["vectors"][:, left_out]
        beta = given["noise_precision"][:, left_out]
        solved = torch.einsum("bde,be->bd", full.covariance, v_s)
        leverage = beta * (v_s * solved).sum(-1)
        residual = given["targets"][:, left_out] - (v_s * full.mean).sum(-1)
        added = beta * (item * solved).sum(-1) * residual / (1 - leverage)
        torch.testing.assert_close(
            (item * (full.mean - refit.mean)).sum(-1), added, atol=1e-12, rtol=1e-12
        )


def test_the_gradient_of_the_inverse_factor_is_that_of_small_steps() -> None:
    given = problem()["prior_precision"].requires_grad_()
    assert torch.autograd.gradcheck(lambda a: InverseCholesky.apply((a + a.mT) / 2), given)
    whitener = InverseCholesky.apply(given)
    eye = torch.eye(4, **TORCH).expand(3, -1, -1)
    torch.testing.assert_close(whitener @ given @ whitener.mT, eye, atol=1e-12, rtol=1e-12)
    assert torch.equal(whitener, whitener.tril())


def test_entries_that_move_the_prior_have_their_part_in_mean_and_shares() -> None:
    given = problem()
    generator = torch.Generator().manual_seed(2)
    table = torch.randn(9, 4, generator=generator, **TORCH)
    items = torch.randint(9, (3, 6), generator=generator)
    posterior = Posterior.of(**given, lifts=Lifts(table, items, 0.5 * given["mask"].double()))
    moved = given["prior_mean"] + 0.5 * (table[items] * given["mask"].unsqueeze(-1)).sum(dim=1)
    same = Posterior.of(**(given | {"prior_mean": moved}))
    torch.testing.assert_close(posterior.mean, same.mean, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(posterior.covariance, same.covariance, atol=1e-12, rtol=1e-12)
    vectors = torch.randn(3, 5, 4, generator=generator, **TORCH)
    prior, support = posterior.shares(vectors)
    assert (support.movedim(1, 2)[~given["mask"]] == 0.0).all()
    total = (vectors @ posterior.mean.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(prior + support.sum(dim=-1), total, atol=1e-10, rtol=1e-10)


def test_the_gram_matrix_has_the_gradient_of_a_product() -> None:
    rows = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(Gram.apply(rows), rows.mT @ rows)
    assert torch.autograd.gradcheck(Gram.apply, rows)


def test_what_is_left_out_is_forecast_from_the_others() -> None:
    given = problem()
    found = Posterior.of(**given).left_out()
    noise = 1.0 / given["noise_precision"].expand_as(given["targets"])
    for entry in range(found.shape[1]):
        mask = given["mask"].clone()
        mask[:, entry] = False
        others = Posterior.of(**(given | {"mask": mask}))
        vector = given["vectors"][:, entry]
        error = given["targets"][:, entry] - (vector * others.mean).sum(dim=1)
        variance = others.variance(vector[:, None]).squeeze(1) + noise[:, entry]
        expected = torch.where(given["mask"][:, entry], error.square() / variance, 0.0)
        torch.testing.assert_close(found[:, entry], expected, atol=1e-9, rtol=1e-9)


@st.composite
def conditioned(draw: st.DrawFn) -> dict[str, Tensor | bool]:
    """A batch of regressions whose prior mean each entry may move."""
    n, size, dim = draw(st.integers(1, 3)), draw(st.integers(1, 6)), draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    root = normal(n, dim, dim)
    return {
        "vectors": normal(n, size, dim),
        "targets": normal(n, size),
        "noise": 0.1 + normal(n, size).square(),
        "mask": torch.rand(n, size, generator=generator) < 0.8,
        "mean": normal(n, dim),
        "precision": root @ root.mT + 0.5 * torch.eye(dim, dtype=torch.float64),
        "lift": normal(20, dim),
        "items": torch.randint(20, (n, size), generator=generator),
        "lifted": draw(st.booleans()),
    }


def posterior_of(case: dict, mask: Tensor) -> Posterior:
    """The regression on the entries of ``mask``; lifts weigh ``1 / sqrt(1 + size)``."""
    lifts = None
    if case["lifted"]:
        sizes = mask.sum(dim=1).double()
        weight = (1.0 + sizes).rsqrt()[:, None] * mask
        regrowth = (1.0 + 1.0 / sizes.clamp_min(1.0)).sqrt()
        lifts = Lifts(case["lift"], case["items"], weight, regrowth)
    return Posterior.of(
        case["vectors"],
        case["targets"] * mask,
        1.0 / case["noise"],
        mask,
        case["mean"],
        case["precision"],
        lifts,
    )


@for_all(conditioned())
@settings(deadline=None)
def test_means_without_an_entry_are_those_of_a_refit(case: dict) -> None:
    mask = case["mask"]
    posterior = posterior_of(case, mask)
    size = mask.shape[1]
    left = posterior.means_without(torch.arange(-1, size).expand(len(mask), -1))

    torch.testing.assert_close(left[:, 0], posterior.mean, atol=1e-9, rtol=1e-9)
    for entry in range(size):
        smaller = mask.clone()
        smaller[:, entry] = False
        refit = posterior_of(case, smaller).mean
        torch.testing.assert_close(left[:, entry + 1], refit, atol=1e-9, rtol=1e-9)
