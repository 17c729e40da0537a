"""Features alone: nothing is remembered by an item's id, and no other mode is there."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from metarec_core.episodes.sampling import full_support
from metarec_core.episodes.types import TaskData
from metarec_core.errors import ModelError
from metarec_core.learners.base import FitContext
from metarec_core.learners.content import Content, ContentConfig

CONFIG = ContentConfig.model_validate(
    {"dim": 8, "hidden": 8, "loop": {"epochs": 2, "batch_tasks": 32}}
)


@pytest.fixture(scope="module")
def fitted(train_data: TaskData, validation_data: TaskData) -> Content:
    learner = Content(CONFIG)
    learner.fit(train_data, validation_data, FitContext(seed=1, device=torch.device("cpu")))
    return learner


def test_it_has_no_parameter_an_item(fitted: Content, train_data: TaskData) -> None:
    parameters = dict(fitted.net.named_parameters())
    assert all(len(parameters[name]) == 0 for name in ("id_keys", "id_values", "id_appeal"))
    assert all(train_data.n_items not in tensor.shape for tensor in parameters.values())


def test_items_of_the_same_content_have_the_same_score(
    train_data: TaskData, validation_data: TaskData
) -> None:
    features = train_data.item_features.copy()
    features[40] = features[0]
    learner = Content(CONFIG)
    context = FitContext(seed=1, device=torch.device("cpu"))
    twins = [replace(data, item_features=features) for data in (train_data, validation_data)]
    learner.fit(*twins, context)
    scores = learner.adapt(full_support(train_data, np.arange(20))).scores()
    torch.testing.assert_close(scores[:, 40], scores[:, 0])
    assert not torch.allclose(scores[:, 40], scores[:, 1])


def test_its_mode_is_content_and_no_other(fitted: Content, train_data: TaskData) -> None:
    support = full_support(train_data, np.arange(3))
    expected = fitted.adapt(support).scores()
    for mode in ("content", "personalised"):
        assert torch.equal(fitted.in_mode(mode).adapt(support).scores(), expected)
    with pytest.raises(ModelError, match="found 'collaborative'; wanted 'content'"):
        fitted.in_mode("collaborative")
