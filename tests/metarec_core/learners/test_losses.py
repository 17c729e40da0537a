"""Losses against PyTorch's own distributions and a loop over targets."""

import torch

from metarec_core.episodes.types import Episode, Support
from metarec_core.learners.losses import gaussian_nll, list_nll


def test_the_gaussian_likelihood_is_that_of_torch() -> None:
    error, variance = torch.tensor([0.5, -2.0, 0.0]), torch.tensor([1.0, 0.3, 4.0])
    normal = torch.distributions.Normal(torch.zeros(3), variance.sqrt())
    torch.testing.assert_close(gaussian_nll(error, variance), -normal.log_prob(error))


def test_the_softmax_leaves_out_the_support_and_counts_relevant_targets_alone() -> None:
    logits = torch.tensor([[0.1, 0.7, -0.4, 1.2, 0.3], [1.0, 0.0, 0.5, -1.0, 2.0]])
    episode = Episode(
        users=torch.arange(2),
        support=Support(
            items=torch.tensor([[1, 0], [0, 4]]),
            values=torch.tensor([[5.0, 0.0], [3.0, 4.0]]),
            mask=torch.tensor([[True, False], [True, True]]),
            user_features=torch.zeros(2, 0),
        ),
        items=torch.tensor([[0, 3, 2], [2, 1, 0]]),
        values=torch.tensor([[4.0, 2.0, 5.0], [4.0, 1.0, 5.0]]),
        mask=torch.tensor([[True, True, True], [True, True, False]]),
    )
    total, count = list_nll(logits, episode, relevant_from=4.0)
    first = torch.log_softmax(logits[0, [0, 2, 3, 4]], dim=0)
    second = torch.log_softmax(logits[1, [1, 2, 3]], dim=0)
    assert int(count) == 3
    torch.testing.assert_close(total, -(first[0] + first[1] + second[1]))


def test_a_batch_without_relevant_targets_costs_nothing() -> None:
    nothing = torch.zeros(1, 0)
    support = Support(nothing.long(), nothing, nothing.bool(), nothing)
    row = torch.ones(1, 2)
    episode = Episode(torch.zeros(1).long(), support, row.long(), row, row.bool())
    total, count = list_nll(torch.randn(1, 3), episode, relevant_from=4.0)
    assert (float(total), int(count)) == (0.0, 1)
