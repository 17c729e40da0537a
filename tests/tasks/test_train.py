import pytest

from tasks.train import progress_note


@pytest.mark.parametrize(
    ("metrics", "note"),
    [
        ({"loss": 1.25, "nll": 0.5}, "epoch 3/8  validation loss 1.2500"),
        ({"moved": 0.5, "norm": 2.0}, "turn 3/8  moved 0.5000, norm 2.0000"),
    ],
)
def test_progress_is_told_with_and_without_a_validation_loss(metrics: dict, note: str) -> None:
    assert progress_note(3, 8, metrics) == note
