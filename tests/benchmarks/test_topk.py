"""The benchmark of the search, on a small case."""

import json

import numpy as np

from benchmarks import _factors as factors
from benchmarks import topk
from metarec_core.episodes.types import InteractionMatrix
from metarec_core.ranking.search import Closed


def test_copies_of_what_a_user_has_seen_are_seen():
    histories = InteractionMatrix(
        np.array([0, 2, 3]), np.array([0, 2, 1]), np.ones(3, dtype=np.float32)
    )
    users = np.array([[10.0], [1000.0]], dtype=np.float32)
    items = np.array([[1.0], [100.0], [10000.0]], dtype=np.float32)
    case = factors.upsampled(factors.Trained(users, items, histories), 50, 40, seed=3)
    source = np.searchsorted([10.0, 1000.0], np.abs(case.vectors[:, 0]))
    for row in range(50):
        seen = case.seen.rows(row, row + 1).items
        wanted = {0, 2} if case.queries[row, 0] < 100.0 else {1}
        assert set(source[seen].tolist()) == wanted
        assert len(np.unique(seen)) == len(seen)


def test_it_measures_both_kinds_of_factors_and_names_absent_peers(shared_data, capsys, monkeypatch):
    found = topk.importlib.util.find_spec
    monkeypatch.setattr(
        topk.importlib.util, "find_spec", lambda name: None if name == "faiss" else found(name)
    )
    topk.main(["--quick", "--rounds", "1", "--json", "--data", str(shared_data / "ml-1m")])
    out, err = capsys.readouterr()
    result = json.loads(out.splitlines()[-1])
    assert "faiss" in result["absent"]
    assert "faiss is not installed and was left out" in err
    rows = {(row["case"].split()[0], row["engine"]): row for row in result["rows"]}
    for label in ("trained", "isotropic"):
        own = rows[label, "metarec"]
        assert own["agreement"] == 1.0
        assert own["users_per_second"] > 0
        assert own["prepare_seconds"] > 0
        assert own["ratio_to_faiss"] is None
        assert rows[label, "gemm"]["ratio_to_gemm"] == 1.0


def test_a_list_that_differs_is_seen():
    vectors = np.eye(3, dtype=np.float32)
    case = factors.Case(
        np.array([[3.0, 2.0, 1.0]], dtype=np.float32),
        vectors,
        Closed(np.array([0, 1]), np.array([1])),
    )
    users = np.array([0])
    assert topk.agreement(case, 2, np.array([[0, 2]]), users) == 1.0
    assert topk.agreement(case, 2, np.array([[0, 1]]), users) == 0.0
