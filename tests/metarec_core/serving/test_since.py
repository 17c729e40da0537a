"""What came after a model was trained, against a plain loop over users."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from metarec_core.episodes.store import Tasks
from metarec_core.episodes.types import ValueScale
from metarec_core.schema import Feedback
from metarec_core.serving.bundle import Bundle
from metarec_core.serving.since import tasks_since

NOON = 1_700_000_000


@pytest.fixture(scope="module")
def tonight(world) -> Tasks:
    """Tonight's catalogue is another one: reversed, and without the model's first item."""
    matrix = world.data.interactions
    times = NOON + np.random.default_rng(5).integers(-50, 50, len(matrix.items))
    n_items = len(world.catalogue)
    kept = matrix.items > 0
    rows = np.repeat(np.arange(matrix.n_users), matrix.counts())[kept]
    items = n_items - 1 - matrix.items[kept]
    order = np.lexsort((items, rows))
    counts = np.bincount(rows, minlength=matrix.n_users)
    return Tasks(
        data=replace(
            world.data,
            interactions=replace(
                matrix,
                indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
                items=items[order],
                values=matrix.values[kept][order],
                times=times[kept][order].astype(np.int64),
            ),
            item_features=world.data.item_features[:0:-1],
        ),
        split=np.zeros(matrix.n_users, dtype=np.int8),
        user_ids=world.users["user_id"],
        catalogue=world.catalogue.reverse().head(n_items - 1),
        min_task_interactions=5,
    )


def test_a_query_is_what_is_new(world, tonight: Tasks, bundles: dict[str, Bundle]) -> None:
    bundle = replace(bundles["bias"], newest=NOON)
    asked = tasks_since(bundle, tonight, world.users, max_query=3, seed=1)
    assert asked is not None
    matrix, n_items = tonight.data.interactions, len(world.catalogue)
    users = []
    for user in range(matrix.n_users):
        own = slice(matrix.indptr[user], matrix.indptr[user + 1])
        # In the model's indices.
        events = [
            (int(time), n_items - 1 - int(item), float(value))
            for time, item, value in zip(
                matrix.times[own], matrix.items[own], matrix.values[own], strict=True
            )
        ]
        # Those of one second stand in tonight's order.
        new = sorted((t, -i, v) for t, i, v in events if t > NOON)[:3]
        if not new:
            continue
        place = len(users)
        users.append(user)
        known = slice(asked.support.indptr[place], asked.support.indptr[place + 1])
        wanted = slice(asked.query.indptr[place], asked.query.indptr[place + 1])
        assert sorted(
            zip(asked.support.items[known], asked.support.values[known], strict=True)
        ) == (sorted((i, v) for t, i, v in events if t <= NOON))
        assert sorted(zip(asked.query.items[wanted], asked.query.values[wanted], strict=True)) == (
            sorted((-i, v) for _, i, v in new)
        )
    assert asked.users.tolist() == users
    assert 10 < len(users) < matrix.n_users
    np.testing.assert_array_equal(asked.user_features, world.data.user_features[users])


def test_nothing_new_or_no_times_is_no_task(
    world, tonight: Tasks, bundles: dict[str, Bundle]
) -> None:
    def ask(newest: int | None, tasks: Tasks = tonight) -> object:
        bundle = replace(bundles["bias"], newest=newest)
        return tasks_since(bundle, tasks, world.users, max_query=3, seed=1)

    assert ask(NOON) is not None
    assert ask(NOON + 50) is None
    assert ask(None) is None
    timeless = replace(
        tonight,
        data=replace(tonight.data, interactions=replace(tonight.data.interactions, times=None)),
    )
    assert ask(NOON, timeless) is None


def test_new_items_that_the_model_does_not_know_are_not_asked(
    world, tonight: Tasks, bundles: dict[str, Bundle]
) -> None:
    strangers = replace(
        tonight, catalogue=tonight.catalogue.with_columns(item_id="x" + pl.col("item_id"))
    )
    bundle = replace(bundles["bias"], newest=NOON)
    assert tasks_since(bundle, strangers, world.users, max_query=3, seed=1) is None


def test_implicit_feedback_asks_for_ten(world, tonight: Tasks, bundles: dict[str, Bundle]) -> None:
    events = replace(
        tonight,
        data=replace(tonight.data, scale=ValueScale(Feedback.IMPLICIT, 1.0, 5.0, 1.0)),
    )
    bundle = replace(bundles["bias"], newest=0)
    asked = tasks_since(bundle, events, world.users, max_query=3, seed=1)
    assert asked is not None
    counts = np.minimum(events.data.interactions.counts(), 10)
    assert asked.query.counts().tolist() == counts[counts > 0].tolist()
    assert not len(asked.support.items)
