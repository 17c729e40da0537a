"""The summary says what a reader needs, after good nights and after bad ones."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest

from metarec_core.errors import ValidationError
from metarec_core.evaluation import SUMMARY_SCHEMA, Comparison, Demand, Verdict
from metarec_core.reporting.night import (
    Failure,
    Links,
    MetricFigure,
    NightSummary,
    RowsByReason,
    StageRecord,
    Warned,
)
from metarec_core.reporting.summary import render_summary


@pytest.fixture
def night() -> NightSummary:
    comparison = Comparison(
        metric="ndcg_at_10",
        support_size=None,
        demand=Demand.BETTER,
        challenger="gaussian",
        opponent="popularity",
        challenger_value=0.36,
        opponent_value=0.31,
        difference=0.05,
        low=0.03,
        high=0.07,
        n_users=94,
        passed=True,
    )
    figures = pl.DataFrame(
        [
            ("popularity", "0", "ndcg_at_10", 0.31, 0.01, 94),
            ("popularity", "all", "ndcg_at_10", 0.31, 0.01, 94),
            ("popularity", "0", "mae", None, None, 0),
            ("popularity", "all", "mae", None, None, 0),
            ("gaussian", "0", "ndcg_at_10", 0.33, 0.01, 94),
            ("gaussian", "all", "ndcg_at_10", 0.36, None, 94),
            ("gaussian", "0", "mae", 0.76, 0.02, 94),
            ("gaussian", "all", "mae", 0.73, 0.02, 94),
        ],
        schema=SUMMARY_SCHEMA,
        orient="row",
    )
    return NightSummary(
        run_date=date(2026, 11, 3),
        state="completed",
        dataset="ml-100k",
        stages=(
            StageRecord(
                name="ingest", state="completed", seconds=1.25, reused=True, rows_in=100_000
            ),
            StageRecord(name="train", state="completed", seconds=150.0, rows_out=3),
        ),
        changes=(
            RowsByReason(table="interactions", reason="duplicate", action="dropped", rows=1200),
        ),
        warnings=(Warned(table="items", expectation="title is not null", found="1 null: '267'"),),
        verdict=Verdict(
            verdict="promoted",
            promoted=True,
            winner="gaussian",
            reason="gaussian becomes champion.",
            rule="It must win.",
            comparisons=(comparison, comparison.model_copy(update={"low": None, "passed": False})),
        ),
        metrics=MetricFigure.from_frame(figures),
        champion_version="3",
        champion_moved=True,
        lists_published=True,
        overhead_seconds=4.0,
        links=Links(prefect_run="http://127.0.0.1:4200/runs/x", lists="var/lists/latest"),
        versions={"torch": "2.13.0", "metarec": "0.1.0+abc"},
    )


def test_a_completed_night(night: NightSummary) -> None:
    text = render_summary(night)
    assert text == render_summary(NightSummary.model_validate_json(night.model_dump_json()))
    for line in (
        "# Night of 2026-11-03: completed",
        "dataset **ml-100k**, champion version **3**, 2.5 min of work, 4.0 s of overhead",
        "## Gate: promoted",
        (
            "| NDCG@10 | popularity | better | yes | all | 0.3600 | 0.3100 | +0.0500 "
            "| +0.0300 to +0.0700 | 94 |"
        ),
        "| NDCG@10 | popularity | better | **no** | all | 0.3600 | 0.3100 | +0.0500 | – | 94 |",
        "| items | title is not null | 1 null: '267' |",
        "| learner | 0 | all |",
        "| popularity | 0.310 ± 0.010 | 0.310 ± 0.010 |",
        "| gaussian | 0.330 ± 0.010 | 0.360 |",
        "| gaussian | 0.760 ± 0.020 | 0.730 ± 0.020 |",
        "| ingest | completed | yes | 1.2 s | 100,000 | – |",
        "| train | completed | no | 2.5 min | – | 3 |",
        "| interactions | duplicate | dropped | 1,200 |",
        "- [Prefect run](http://127.0.0.1:4200/runs/x)",
        "- Lists: `var/lists/latest`",
        "- metarec `0.1.0+abc`",
    ):
        assert line in text.splitlines(), line
    assert "| popularity | – | – |" not in text, "popularity has no row under MAE"
    assert "What went wrong" not in text


def test_a_failed_night_says_what_to_do(night: NightSummary) -> None:
    error = ValidationError(
        "ratings.csv", found="12 nulls | in ```user```", wanted="none", next_step="repair *them*"
    )
    failed = night.model_copy(
        update={
            "state": "failed",
            "verdict": None,
            "metrics": (),
            "champion_moved": False,
            "lists_published": False,
            "failure": Failure.from_error("validate", error),
            "stages": (
                StageRecord(name="validate", state="failed", seconds=1.0),
                StageRecord(name="clean", state="not run"),
            ),
        }
    )
    text = render_summary(failed)
    assert text.startswith("# Night of 2026-11-03: failed")
    assert "Stage **validate** failed with `ValidationError`:" in text
    assert "````text\nratings.csv: found 12 nulls | in ```user```; wanted none.\n````" in text
    assert r"**Next step:** repair \*them\*" in text
    assert "**The champion and the published lists are unchanged.**" in text
    assert "| clean | not run | no | – | – | – |" in text
    assert text.index("What went wrong") < text.index("## Stages")
    assert "Gate" not in text


@pytest.mark.parametrize(
    ("moved", "published", "sentence"),
    [
        (True, False, "The champion had already changed; the published lists are unchanged."),
        (False, True, "The champion is unchanged; new lists had already been published."),
    ],
)
def test_a_late_failure_does_not_claim_that_nothing_changed(
    night: NightSummary, moved: bool, published: bool, sentence: str
) -> None:
    failed = night.model_copy(
        update={
            "state": "failed",
            "champion_moved": moved,
            "lists_published": published,
            "failure": Failure.from_error("recommend", MemoryError()),
        }
    )
    text = render_summary(failed)
    assert f"**{sentence}**" in text
    assert "(the error has no text)" in text
    assert "**Next step:** read the log of this stage" in text


def test_the_barest_night() -> None:
    night = NightSummary(run_date=date(2026, 1, 1), state="failed", dataset="a|b\n# c")
    text = render_summary(night)
    assert r"dataset **a\|b \# c**" in text
    assert "unchanged" in text


def test_hostile_text_does_not_break_a_table(night: NightSummary) -> None:
    hostile = Warned(table="items", expectation="a | b\n| c | d |", found="<img src=x>`")
    text = render_summary(night.model_copy(update={"warnings": (hostile,)}))
    (line,) = [line for line in text.splitlines() if "img" in line]
    assert line == r"| items | a \| b \| c \| d \| | \<img src=x\>\` |"
