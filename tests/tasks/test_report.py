"""The report of a night: frames of its stages, the page in its directory, and what it survives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from metarec_core.ranking.publication import LISTS
from metarec_core.ranking.stream import write_stream
from metarec_core.reporting.html import ChosenPoint
from metarec_core.schema import RECOMMENDATIONS_SCHEMA
from metarec_core.storage import StageFacts, StageOutput, build_stage
from tasks import summary
from tasks.night import Night
from tasks.report import gather
from tasks.summary import reported, summarise_night

FRONTIER = pl.DataFrame(
    {
        "method": ["none", "none", "mmr", "mmr"],
        "strength": [0.0, 0.0, 0.3, 0.3],
        "metric": ["ndcg_at_10", "novelty"] * 2,
        "value": [0.4, 1.0, 0.39, 2.0],
        "n_users": [30, None] * 2,
        "loss_se": [0.0, None, 0.004, None],
    }
)

Made = Callable[..., Night]


@pytest.fixture
def night_of(workshop: Any) -> Made:
    """A night whose stages left these frames: ``night_of(gate={...}, recommend={...})``."""

    def make(facts: dict[str, Any] | None = None, **stages: dict[str, pl.DataFrame]) -> Night:
        outputs: dict[str, StageOutput] = {}
        for stage, frames in stages.items():

            def build(out: Path, _: Path, frames: dict[str, pl.DataFrame] = frames) -> StageFacts:
                for name, frame in frames.items():
                    path = out / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_stream(path, [frame])
                return StageFacts(facts=facts or {})

            wanted = {name: frame.write_json() for name, frame in frames.items()}
            outputs[f"report-{stage}"] = build_stage(
                workshop.night.home, f"report-{stage}", settings=[wanted, facts], build=build
            )
        renamed = {name.removeprefix("report-"): output for name, output in outputs.items()}
        made: Night = replace(workshop.night, outputs=renamed)
        return made

    return make


def test_frames_are_found_where_stages_left_them(night_of: Made) -> None:
    metrics = pl.DataFrame({"metric": ["novelty"], "value": [1.0]})
    shard = f"{LISTS}/shard-00000.parquet"
    night = night_of(
        {"diversity": {"method": "mmr", "strength": 0.3}},
        gate={"frontier.parquet": FRONTIER},
        recommend={"list_metrics.parquet": metrics, shard: RECOMMENDATIONS_SCHEMA.to_frame()},
    )
    report = gather(replace(night), summarise_without_gate(night))
    assert report.frontier is not None
    assert report.frontier.equals(FRONTIER)
    assert report.list_metrics is not None
    assert report.list_metrics.equals(metrics)
    assert report.reliability is None
    assert report.chosen == ChosenPoint("mmr", 0.3)
    assert report.learner == "champion"
    assert report.lists is not None
    assert (report.lists.users, report.lists.entries) == (0, 0)


def summarise_without_gate(night: Night) -> Any:
    """The gate of these nights left no verdict."""
    kept = {name: output for name, output in night.outputs.items() if name != "gate"}
    return summarise_night(replace(night, outputs=kept), None)


def test_a_night_without_frames_has_a_report_too(night_of: Made) -> None:
    night = night_of()
    report = gather(night, summarise_without_gate(night))
    assert (report.frontier, report.chosen, report.lists) == (None, None, None)


def test_the_page_lies_beside_the_summary_which_links_to_it(
    night_of: Made, artifacts: list[str]
) -> None:
    night = night_of(validate_clean={"frontier.parquet": FRONTIER})
    with reported(night):
        pass
    path = Path(str(night.status.paths.report))
    assert path.name == "report.html"
    page = path.read_text(encoding="utf-8")
    assert 'id="frontier"' in page
    written = path.with_name("summary.md").read_text(encoding="utf-8")
    assert f"Report with charts: `{path}`" in written
    assert written == artifacts[0]
    files = [one.path for one in night.store.client.list_artifacts(night.tracked.run_id)]
    assert {"report.html", "summary.md"} <= set(files)
    assert any(url.endswith(f"{night.tracked.run_id}/artifacts/report.html") for url in artifacts)


def test_frames_of_another_shape_cost_their_section_alone(
    night_of: Made, artifacts: list[str]
) -> None:
    night = night_of(
        features={"frontier.parquet": FRONTIER.drop("strength")},
        episodes={"list_metrics.parquet": pl.DataFrame({"metric": ["novelty"], "value": [1.0]})},
    )
    with reported(night):
        pass
    page = Path(str(night.status.paths.report)).read_text(encoding="utf-8")
    assert 'id="lists"' in page
    assert 'id="frontier"' not in page


def test_a_report_that_cannot_be_written_fails_nothing(
    night_of: Made, artifacts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    night = night_of()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(summary, "_write_report", full)
    with reported(night):
        pass
    assert night.status.paths.report is None
    assert "Report with charts" not in artifacts[0]


@pytest.fixture
def artifacts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Prefect would be given: the text, then addresses."""
    made: list[str] = []
    monkeypatch.setattr(summary, "create_markdown_artifact", lambda text, **_: made.append(text))
    monkeypatch.setattr(summary, "create_link_artifact", lambda url, **_: made.append(url))
    return made
