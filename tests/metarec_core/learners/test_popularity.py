import numpy as np
import torch

from metarec_core.episodes.types import InteractionMatrix, Support, TaskData
from metarec_core.learners.popularity import Popularity


def test_scores_are_log_counts_of_relevant_interactions(train_data: TaskData, fit) -> None:
    learner = fit("popularity", train_data, train_data)

    expected = np.zeros(train_data.n_items)
    matrix: InteractionMatrix = train_data.interactions
    for item, value in zip(matrix.items, matrix.values, strict=True):
        expected[item] += value >= 4.0
    nothing = torch.zeros(2, 0)
    support = Support(nothing.long(), nothing, nothing.bool(), torch.zeros(2, 2))
    predictor = learner.adapt(support)

    assert isinstance(learner, Popularity)
    assert np.allclose(predictor.scores(), np.log1p(expected)[None].repeat(2, axis=0))
    assert predictor.mean_var()[0].isnan().all()
    assert predictor.mean_var()[1].isnan().all()


def test_validation_users_are_not_counted(
    train_data: TaskData, validation_data: TaskData, fit
) -> None:
    alone = fit("popularity", train_data, train_data).state()["log_counts"]
    beside = fit("popularity", train_data, validation_data).state()["log_counts"]
    assert torch.equal(alone, beside)
