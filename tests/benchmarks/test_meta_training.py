"""The benchmark of training speed, on a few random users."""

import json

import numpy as np
import pytest

from benchmarks import meta_training
from metarec_core.learners.maml_net import Variant


def test_it_compares_every_variant_with_its_loop_and_times_the_gaussian(
    capsys: pytest.CaptureFixture[str],
) -> None:
    meta_training.main(
        ["--planted", "60", "--tasks", "16", "--batch", "16", "--repeats", "1", "--json"]
    )
    *table, last = capsys.readouterr().out.splitlines()
    rows = json.loads(last)["rows"]
    assert [row["variant"] for row in rows] == [*map(str, Variant), None]
    assert len(table) == len(rows) + 3
    for row in rows[:-1]:
        assert row["tasks_per_second"] > 0
        assert row["speed_up"] == row["tasks_per_second"] / row["loop_tasks_per_second"]
        assert row["apart"] < 1e-4
    assert (rows[-1]["learner"], rows[-1]["speed_up"]) == ("gaussian", None)
    assert rows[-1]["tasks_per_second"] > 0
    assert rows[-1]["tasks_per_processor_second"] > 0


def test_unlike_gradients_give_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that forgets a part of the loss must not be timed against."""
    honest = meta_training.loss_of_one

    def forgetful(*given):
        return {name: part for name, part in honest(*given).items() if name != "mae"}

    monkeypatch.setattr(meta_training, "loss_of_one", forgetful)
    data = meta_training.planted(40, 30, seed=0)
    with pytest.raises(SystemExit, match="apart"):
        meta_training.compare(data, Variant.FOMAML, n_tasks=4, repeats=1, seed=0)


def test_tables_of_movielens_become_tasks(tmp_path) -> None:
    (tmp_path / "users.dat").write_text("1::F::25::3::x\n2::M::18::4::y\n", encoding="latin-1")
    (tmp_path / "movies.dat").write_text(
        "10::Één (1999)::Drama|War\n20::B (2000)::War\n", encoding="latin-1"
    )
    rows = {
        "user_id": [2, 1, 1, 2],
        "item_id": [10, 20, 10, 20],
        "rating": [5, 3, 1, 2],
        "melu_state": ["warm", "warm", "warm", "user_cold"],
    }
    meta_training.pl.DataFrame(rows).write_parquet(tmp_path / "ratings.parquet")
    data = meta_training.movielens(tmp_path)
    assert data.interactions.counts().tolist() == [2, 1]
    assert data.interactions.items.tolist() == [0, 1, 0]
    assert data.interactions.values.tolist() == [1.0, 3.0, 5.0]
    assert data.user_features.sum(axis=1).tolist() == [3.0, 3.0]
    np.testing.assert_array_equal(data.item_features, [[1.0, 1.0], [0.0, 1.0]])
