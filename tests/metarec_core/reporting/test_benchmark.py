from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from metarec_core.reporting.benchmark import (
    benchmark_lines,
    benchmark_report,
    metric_lines,
    standing,
    verdict,
)
from metarec_core.reporting.benchmark_figures import (
    accuracy_against_time,
    accuracy_by_support,
    calibration_by_state,
)
from metarec_core.reporting.figures import save_figure


def row(learner: str, state: str | None, k: int | None, metric: str, value: float, **more: Any):
    fields = {"se": 0.01, "best_baseline": None, "diff_low": None, "diff_high": None} | more
    return {
        "learner": learner,
        "state": state,
        "k": k,
        "metric": metric,
        "value": value,
    } | fields


@pytest.fixture
def document() -> dict[str, Any]:
    rows = []
    for k, lift in ((1, 0.05), (5, 0.02), (20, -0.03)):
        rows.append(row("popularity", "user_cold", k, "ndcg_at_10", 0.43))
        rows.append(
            row(
                "gaussian",
                "user_cold",
                k,
                "ndcg_at_10",
                0.43 + lift,
                best_baseline="popularity",
                diff_low=lift - 0.025,
                diff_high=lift + 0.025,
            )
        )
    for learner, error in (("bias", 0.74), ("gaussian", 0.70)):
        for state in ("warm", "warm:5-9", "warm:10-19"):
            low = None if learner == "bias" else -0.05
            rows.append(
                row(learner, state, None, "mae", error, diff_low=low, diff_high=low and -0.03)
            )
        rows.append(row(learner, "warm", None, "coverage_90", 0.9))
        rows.append(row(learner, "warm", None, "ece", 0.03))
    for learner, seconds in (("popularity", 0.001), ("bias", 0.2), ("gaussian", 80.0)):
        costs = ("fit_seconds", "adapt_seconds", "tasks_per_second")
        rows += [row(learner, None, None, metric, seconds) for metric in costs]
    return {
        "protocol": "p2",
        "title": "lists of cold users",
        "rows": rows,
        "failures": [{"learner": "ease", "study": "seed 1", "message": "too many items"}],
        "known": [
            {
                "method": "ItemKNN",
                "state": "user_cold",
                "k": 5,
                "metric": "ndcg_at_10",
                "value": 0.545,
                "published": False,
            }
        ],
        "duels": [],
        "challengers": ["gaussian"],
        "seeds": [1],
        "users": {"file": "users.json"},
    }


def test_an_interval_clear_of_zero_is_marked_on_the_right_side() -> None:
    assert verdict(row("a", "s", 1, "ndcg_at_10", 0.5, diff_low=0.01, diff_high=0.02)) == "+"
    assert verdict(row("a", "s", 1, "ndcg_at_10", 0.5, diff_low=-0.02, diff_high=-0.01)) == "-"
    assert verdict(row("a", "s", 1, "mae", 0.5, diff_low=-0.02, diff_high=-0.01)) == "+"
    assert verdict(row("a", "s", 1, "mae", 0.5, diff_low=-0.02, diff_high=0.01)) == ""
    assert verdict(row("a", "s", 1, "mae", 0.5)) == ""


def test_our_figures_stand_beside_known_ones(document: dict[str, Any]) -> None:
    lines = metric_lines(document, "ndcg_at_10")
    assert lines[0] == "NDCG@10 (higher is better)"
    assert lines[1].split() == ["k=1", "k=5", "k=20"]
    assert lines[2].split() == ["ItemKNN", "(known)", "0.545"]
    assert lines[3].split() == ["popularity", "0.430", "0.430", "0.430"]
    assert lines[4].split() == ["gaussian", "0.480+", "0.450", "0.400-"]
    assert "k=1: +0.025 to +0.075 (popularity)" in lines[5]
    assert len(lines) == 6


def duel(baseline: str, k: int, low: float | None, high: float | None, **more: Any):
    fields = {"learner": "average", "state": "user_cold", "metric": "ndcg_at_10"} | more
    return fields | {"baseline": baseline, "k": k, "difference": 0.0, "low": low, "high": high}


def test_the_difference_to_each_baseline_is_told(document: dict[str, Any]) -> None:
    document["duels"] = [
        duel("popularity", 1, 0.01, 0.02),
        duel("popularity", 5, -0.02, -0.01),
        duel("ease", 1, -0.01, 0.02),
        duel("ease", 5, None, None),
        duel("ease", 1, 0.3, 0.4, learner="gaussian"),
        duel("bias", 1, 0.3, 0.4, metric="recall_at_20"),
    ]
    lines = metric_lines(document, "ndcg_at_10")[7:]
    assert lines[0] == "average minus each baseline, interval"
    assert lines[1].split() == ["k=1", "k=5", "k=20"]
    assert lines[2].split() == ["minus", "popularity", "+0.010..+0.020+", "-0.020..-0.010-"]
    assert lines[3].split() == ["minus", "ease", "-0.010..+0.020"]
    assert len(lines) == 4


def test_a_wide_table_is_cut_into_one_a_state(document: dict[str, Any]) -> None:
    for state in ("a/cold", "b/cold"):
        for k in (1, 2, 5):
            document["rows"].append(row("gaussian", state, k, "ndcg_at_10", 0.2))
    document["rows"].append(row("gaussian", "a/warm", None, "ndcg_at_10", 0.2))
    lines = metric_lines(document, "ndcg_at_10")
    assert ["a/warm", "all", "sizes"] in [line.split() for line in lines]
    heads = [line.split() for line in lines if "k=5" in line and "minus" not in line]
    assert heads == [
        ["user_cold", "k=1", "k=5", "k=20"],
        ["a/cold", "k=1", "k=2", "k=5"],
        ["b/cold", "k=1", "k=2", "k=5"],
    ]
    assert sum(line.startswith("popularity") for line in lines) == 1


def test_who_leads_is_said_in_a_line(document: dict[str, Any]) -> None:
    assert standing(document, "user_cold", "ndcg_at_10") == (
        "ahead: gaussian k=1; level: gaussian k=5; behind: gaussian k=20"
    )
    assert standing(document, "warm", "mae") == "ahead: gaussian"
    assert (
        standing(document | {"challengers": []}, "warm", "mae") == "best baseline: gaussian 0.700"
    )


def test_failures_and_costs_are_told(document: dict[str, Any]) -> None:
    text = "\n".join(benchmark_lines(document, ("ndcg_at_10", "mae")))
    assert "left out: ease (seed 1): too many items" in text
    assert "tasks/s" in text
    assert "5-9" not in text
    assert metric_lines(document, "coverage_90")[0] == (
        "90% interval coverage (nearest to 90% is best)"
    )
    report = benchmark_report(document, ("ndcg_at_10", "mae"), ["accuracy.png"])
    assert "![accuracy.png](accuracy.png)" in report
    assert "ahead: gaussian k=1" in report


def test_figures_show_the_contest(document: dict[str, Any], tmp_path: Path) -> None:
    far = row("item_mean", "user_cold", 1, "ndcg_at_10", 0.001)
    document["rows"] += [far, row("item_mean", None, None, "fit_seconds", 0.01)]
    accuracy = accuracy_by_support(document, ("ndcg_at_10", "mae"))
    lists, ratings = accuracy.axes
    assert [label.get_text() for label in lists.get_xticklabels()] == ["1", "5", "20"]
    assert [label.get_text() for label in ratings.get_xticklabels()] == ["5-9", "10-19"]
    low, high = lists.get_ylim()
    assert 0.2 < low < 0.40 < 0.48 < high
    assert any("far behind: item_mean" in text.get_text() for text in lists.texts)
    # The better end is up, for errors too.
    assert ratings.get_ylim()[0] > ratings.get_ylim()[1]
    calibration = calibration_by_state(document)
    assert calibration is not None
    assert [axes.get_title(loc="left") for axes in calibration.axes] == [
        "90% interval coverage",
        "Calibration error of P(relevant)",
    ]
    cost = accuracy_against_time(document, ("ndcg_at_10",))
    assert {text.get_text() for text in cost.axes[0].texts} == {"popularity", "gaussian"}
    for name, figure in (("a", accuracy), ("b", calibration), ("c", cost)):
        save_figure(figure, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
    rankings_only = [one for one in document["rows"] if one["metric"] == "ndcg_at_10"]
    assert calibration_by_state(document | {"rows": rankings_only}) is None


def test_a_panel_keeps_to_itself_and_to_what_can_be(document: dict[str, Any]) -> None:
    for size in (50, 60, 70, 80):
        interval = {"diff_low": -0.9, "diff_high": -0.8} if size < 70 else {}
        document["rows"].append(row("popularity", "user_cold", size, "ndcg_at_10", 0.9))
        document["rows"].append(row("gaussian", "user_cold", size, "ndcg_at_10", 0.05, **interval))
    panel = accuracy_by_support(document, ("ndcg_at_10", "mae")).axes[0]
    assert panel.get_ylim()[0] == 0.0
    title = panel.get_title(loc="left").splitlines()
    assert title[0] == "user_cold"
    assert len(title) > 2
    assert " ".join(title[1:]) == standing(document, "user_cold", "ndcg_at_10")
    assert all(len(line) <= 52 for line in title)
