"""A training task never meets its own interactions in the statistics of items."""

import numpy as np
import torch

from metarec_core.episodes.sampling import EpisodeSampler
from metarec_core.learners.item_statistics import StatisticsOfOthers

CPU = torch.device("cpu")
UNIT = torch.tensor(0.8)


def test_a_batch_taken_out_leaves_what_the_other_users_said(make_planted) -> None:
    data = make_planted(40, seed=1)
    bias = torch.linspace(-1, 1, data.n_users)
    mu = torch.tensor(3.3)
    everyone = StatisticsOfOthers.of(data, mu, UNIT, bias, CPU)
    # Large enough to hold whole histories: the batch's users leave nothing behind.
    sampler = EpisodeSampler(data, max_support=64, max_query=64, batch_size=7)
    for episode in sampler.epoch(np.random.default_rng(0)):
        others = np.setdiff1d(np.arange(data.n_users), episode.users.numpy())
        wanted = StatisticsOfOthers.of(data.select(others), mu, UNIT, bias[others], CPU).whole
        found = everyone.without(episode)
        for name, tensor in found._asdict().items():
            torch.testing.assert_close(tensor, getattr(wanted, name), atol=1e-4, rtol=0)
        assert found.met.sum() < everyone.whole.met.sum()


def test_an_item_that_nobody_else_met_is_new_to_its_task(make_planted) -> None:
    data = make_planted(1, seed=3)
    everyone = StatisticsOfOthers.of(data, torch.tensor(3.0), UNIT, torch.zeros(1), CPU)
    episode = next(
        EpisodeSampler(data, max_support=64, max_query=64, batch_size=1).epoch(
            np.random.default_rng(0)
        )
    )
    found = everyone.without(episode)
    assert (found.met == 0).all()
    assert (found.reliability(10.0) == 0).all()
    assert (found.log_share() == 0).all()
    torch.testing.assert_close(found.mean_residual(), torch.zeros(data.n_items), atol=1e-5, rtol=0)
