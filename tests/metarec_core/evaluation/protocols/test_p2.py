from __future__ import annotations

import numpy as np
import polars as pl
import torch

from metarec_core.config import BenchmarkConfig
from metarec_core.evaluation.protocols import p2
from metarec_core.evaluation.protocols.corpus import STATE, Corpus


def test_tasks_are_those_of_the_protocol(corpus: Corpus, config: BenchmarkConfig) -> None:
    (study,) = p2.studies(corpus, config)
    (state,) = study.states
    rows = corpus.interactions
    warm = rows.filter(pl.col(STATE) == "warm")
    catalogue = np.unique(warm["item"].to_numpy())
    cold = rows.filter(pl.col(STATE) == "user_cold", pl.col("value") >= 4)
    positives = {
        int(user): set(part["item"].to_list())
        for (user,), part in cold.filter(pl.col("item").is_in(catalogue)).group_by("user")
    }
    eligible = sorted(user for user, items in positives.items() if len(items) >= 30)
    assert len(eligible) >= 10
    assert study.user_ids["validation"] == corpus.users["user_id"][eligible[::3]].to_list()
    assert study.train.interactions.values.shape == (len(warm),)
    reserved: dict[int, set[int]] = {}
    for k in (20, 10, 5, 2, 1, 0):
        seen = set()
        for batch in state.tasks[k].batches(7):
            for row, user in enumerate(batch.users.tolist()):
                seen.add(user)
                items = batch.episode.support.items[row][batch.episode.support.mask[row]]
                support = set(catalogue[items.numpy()].tolist())
                query = batch.episode.items[row][batch.episode.mask[row]]
                targets = set(catalogue[query.numpy()].tolist())
                assert len(support) == k
                reserved.setdefault(user, support)
                assert support <= reserved[user]
                assert targets == positives[user] - reserved[user]
                assert batch.targets[row].equal(batch.episode.mask[row])
                assert batch.excluded is not None
                out = batch.excluded[row].nonzero().squeeze(1)
                assert set(catalogue[out.numpy()].tolist()) == reserved[user]
        assert sorted(seen) == sorted(set(eligible) - set(eligible[::3]))


def test_a_seed_moves_the_shuffle_and_nothing_else(corpus: Corpus) -> None:
    one, other, again = (
        next(iter(p2.studies(corpus, BenchmarkConfig(seeds=(seed,))))) for seed in (1, 2, 1)
    )
    assert one.user_ids == other.user_ids
    tasks = [study.states[0].tasks[20] for study in (one, other, again)]
    supports = [next(iter(part.batches(100))).episode.support.items for part in tasks]
    assert torch.equal(supports[0], supports[2])
    assert not torch.equal(supports[0], supports[1])
