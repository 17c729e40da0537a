from __future__ import annotations

import numpy as np
import torch

from metarec_core.episodes.fixed import FixedTasks, rows_of


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def floats(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def tasks(**changes: object) -> FixedTasks:
    settings: dict[str, object] = {
        "users": ints(7, 9, 7),
        "user_features": np.arange(6, dtype=np.float32).reshape(3, 2),
        "n_items": 8,
        "support": rows_of([(ints(3, 1), floats(4, 2)), (ints(), floats()), (ints(5), floats(1))]),
        "query": rows_of(
            [(ints(2), floats(5)), (ints(6, 0), floats(3, 4)), (ints(4, 7), floats(1, 5))]
        ),
        "targets": np.array([True, False, True, False, True]),
    }
    return FixedTasks(**(settings | changes))  # type: ignore[arg-type]


def test_rows_keep_their_order_and_their_flags() -> None:
    made = tasks()
    assert len(made) == 3
    (batch,) = made.batches(10)
    assert batch.users.tolist() == [7, 9, 7]
    assert batch.support_size.tolist() == [2, 0, 1]
    assert batch.episode.support.items.tolist() == [[3, 1], [0, 0], [5, 0]]
    assert batch.episode.support.values.tolist() == [[4, 2], [0, 0], [1, 0]]
    assert batch.episode.items.tolist() == [[2, 0], [6, 0], [4, 7]]
    assert batch.episode.mask.tolist() == [[True, False], [True, True], [True, True]]
    assert batch.targets.tolist() == [[True, False], [False, True], [False, True]]
    assert batch.episode.support.user_features[2].tolist() == [4, 5]


def test_batches_part_the_tasks() -> None:
    parts = list(tasks().batches(2))
    assert [part.users.tolist() for part in parts] == [[7, 9], [7]]
    assert parts[1].targets.tolist() == [[False, True]]


def test_what_competes() -> None:
    (batch,) = tasks().batches(10)
    assert batch.excluded is not None
    assert [row.nonzero().flatten().tolist() for row in batch.excluded] == [[1, 3], [], [5]]
    reserved = rows_of([(ints(0), floats(1)), (ints(1), floats(1)), (ints(), floats())])
    (batch,) = tasks(excluded=reserved, candidates=ints(0, 1, 2, 5)).batches(10)
    assert batch.excluded is not None
    assert [(~row).nonzero().flatten().tolist() for row in batch.excluded] == [
        [2, 5],
        [0, 2, 5],
        [0, 1, 2],
    ]
    (batch,) = tasks(among_query=True, tie_seed=3).batches(10)
    assert batch.excluded is None
    assert batch.tie_seed == 3
    assert isinstance(batch.episode.users, torch.Tensor)
