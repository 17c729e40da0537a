"""What the learners that come with metarec can do beyond what every learner must."""

from __future__ import annotations

import numpy as np
import pytest

from metarec_core.episodes.sampling import full_support
from metarec_core.episodes.types import TaskData
from metarec_core.learners.base import Counterfactual, LinearPredictor
from metarec_core.learners.registry import LEARNERS

OWN = (
    "amortised",
    "average",
    "bias",
    "blr",
    "content",
    "ease",
    "gaussian",
    "ials",
    "item_knn",
    "maml",
    "popularity",
    "trending",
)


def test_these_are_all() -> None:
    assert sorted(LEARNERS) == sorted(OWN)


@pytest.mark.parametrize("name", OWN)
def test_each_gives_reasons_and_knows_its_scores_without_one_interaction(
    name: str, fit, train_data: TaskData, validation_data: TaskData, test_data: TaskData
) -> None:
    learner = fit(name, train_data, validation_data)
    predictor = learner.adapt(full_support(test_data, np.arange(5)))
    assert isinstance(predictor, LinearPredictor)
    assert isinstance(predictor, Counterfactual)
