"""The benchmark of re-ranking, on small pools and a small shop."""

import json

import pytest

from benchmarks import diversity
from metarec_core.evaluation.diversity import DIVERSITY_METRICS
from metarec_core.ranking.diversity.registry import METHODS

SMALL = ["--users", "12", "--pool", "30", "--k", "6", "--dim", "8", "--repeats", "2"]


def rows_of(capsys: pytest.CaptureFixture[str]) -> tuple[list[str], list[dict]]:
    *table, last = capsys.readouterr().out.splitlines()
    return table, json.loads(last)["rows"]


def test_every_method_is_timed_against_the_same_lists_in_numpy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    diversity.main([*SMALL, "--part", "speed", "--json"])
    table, rows = rows_of(capsys)
    assert [row["method"] for row in rows] == list(METHODS)
    assert len(table) == len(rows) + 2
    for row in rows:
        assert row["users_per_second"] > 0
        assert row["ratio_to_numpy"] > 0
        assert row["agreement"] == (None if row["method"] == "sample" else 1.0)
    assert {row["method"]: row["wanted"] for row in rows if row["wanted"]} == diversity.WANTED


def test_unlike_lists_give_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    def backwards(pool, space, row, strength, length):
        return list(range(length))[::-1]

    monkeypatch.setattr(diversity, "REFERENCES", {**diversity.REFERENCES, "mmr": backwards})
    with pytest.raises(SystemExit, match=r"mmr: 0.0% of the lists"):
        diversity.main([*SMALL, "--part", "speed"])


def test_the_frontier_of_a_team_s_own_shop(own_dataset, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = str(own_dataset.descriptor)
    diversity.main(["--part", "frontier", "--dataset", dataset, "--epochs", "2", "--json"])
    _, rows = rows_of(capsys)
    unsure = {"sample", "mean_variance"}
    for learner, methods in (("gaussian", set(METHODS)), ("ease", set(METHODS) - unsure)):
        of_frontier, gentle = (
            [row for row in rows if (row["learner"], row["part"]) == (learner, part)]
            for part in ("frontier", "gentle")
        )
        assert {row["method"] for row in of_frontier} == methods
        assert {row["metric"] for row in of_frontier} == {"ndcg_at_10", *DIVERSITY_METRICS}
        assert {row["users"] for row in gentle} == {"test"}
        accuracy = {
            (row["method"], row["strength"]): row["value"]
            for row in of_frontier
            if row["metric"] == "ndcg_at_10"
        }
        for row in gentle:
            chosen = accuracy[row["method"], row["strength"]]
            assert chosen >= 0.99 * accuracy["none", 0.0]
            assert row["method"] != "none" or row["value"] == row["without"]


def test_a_dataset_that_is_not_there_is_said_so(
    tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("METAREC_HOME", str(tmp_path))
    diversity.main(["--part", "frontier", "--json"])
    table, rows = rows_of(capsys)
    assert rows == []
    assert table[0].startswith("no frontier: ")
    assert "ml-100k" in table[0]
