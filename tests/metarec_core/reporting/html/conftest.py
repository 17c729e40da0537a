"""A night with every frame that its report may show."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from metarec_core.calibration.reliability import RELIABILITY_SCHEMA
from metarec_core.evaluation.diversity import DIVERSITY_METRICS
from metarec_core.ranking.diversity.frontier import FRONTIER_SCHEMA
from metarec_core.ranking.stream import write_stream
from metarec_core.reporting.html import ChosenPoint, NightReport
from metarec_core.reporting.html.profile import ListsProfile, profile_lists
from metarec_core.reporting.night import Links, NightSummary, Warned
from metarec_core.schema import RECOMMENDATIONS_SCHEMA

STRENGTHS = (0.0, 0.25, 0.5, 1.0)
SECTIONS = {
    "warnings": "Warnings",
    "frontier": "Accuracy and diversity",
    "lists": "The lists of the night",
    "reliability": "Reliability of P(relevant)",
    "explanations": "Reasons",
    "spread": "Scores and uncertainty",
    "flags": "Short lists and rules",
}


def frontier() -> pl.DataFrame:
    """Two methods; ``mmr`` keeps 99 % of the accuracy up to 0.5, ``dpp`` up to 0.25."""
    nothing = (None, None)
    rows: list[tuple[object, ...]] = [("none", 0.0, "ndcg_at_10", 0.4, 1200, 0.0)]
    rows += [("none", 0.0, metric, 0.5, *nothing) for metric in DIVERSITY_METRICS]
    for method, cost in (("mmr", 0.01), ("dpp", 0.03)):
        for strength in STRENGTHS:
            accuracy = 0.4 - cost * strength**2
            rows.append((method, strength, "ndcg_at_10", accuracy, 1200, 0.002 * strength))
            rows += [
                (method, strength, metric, 0.5 + strength, *nothing) for metric in DIVERSITY_METRICS
            ]
    rows.append(("dpp", 1.0, "unmeasured", None, *nothing))
    return pl.DataFrame(rows, schema=FRONTIER_SCHEMA, orient="row")


def reliability() -> pl.DataFrame:
    """Bins of two learners in two segments."""
    rows = [
        (learner, segment, place, 10 + place, 5, (place + 0.5) / 4, (place + shift) / 4)
        for learner, shift in (("champion", 0.7), ("average", 0.5))
        for segment in ("all", "1-4")
        for place in range(4)
    ]
    return pl.DataFrame(rows, schema=RELIABILITY_SCHEMA, orient="row")


def curves() -> pl.DataFrame:
    rows = [
        (name, part / 4, 1 - part / 4) for name in ("deletion", "insertion") for part in range(5)
    ]
    return pl.DataFrame(rows, schema=["curve", "removed", "value"], orient="row")


def lists() -> pl.DataFrame:
    """Published lists of three users, one of them short."""
    rows = [
        {
            "run_date": date(2026, 3, 2),
            "user_id": user,
            "rank": rank,
            "item_id": f"i{rank}",
            "title": "T",
            "score": size + rank / 10,
            "rating": None if user == "c" else 3.5,
            "sd": None if user == "c" else 0.5,
            "p_relevant": 0.25 * rank,
            "segment": segment,
            "support_size": size,
            "reasons": [],
            "rule_flags": flags,
        }
        for user, segment, size, entries in (
            ("a", "20-49", 22, [["pinned"], [], ["quota:Drama"]]),
            ("b", "5-9", 7, [["pinned"], []]),
            ("c", "0", 0, [["short: only 1 open item"]]),
        )
        for rank, flags in enumerate(entries, start=1)
    ]
    return pl.DataFrame(rows, schema=RECOMMENDATIONS_SCHEMA)


class Page(HTMLParser):
    """A page as a browser's parser sees it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._inside: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = tag
            if tag == "script":
                self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside is None:
            self.words.append(data)

    @property
    def sections(self) -> list[str | None]:
        return [attributes["id"] for tag, attributes in self.tags if tag == "section"]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def charts(self) -> dict[str, Any]:
        found = re.search(r"const charts = (\{.*?\});\n", self.scripts[-1])
        assert found is not None
        charts: dict[str, Any] = json.loads(found[1])
        return charts


@pytest.fixture(scope="session")
def profile(tmp_path_factory: pytest.TempPathFactory) -> ListsProfile:
    path = tmp_path_factory.mktemp("lists") / "shard-00000.parquet"
    write_stream(path, [lists()])
    return profile_lists([path])


@pytest.fixture(scope="session")
def night() -> NightSummary:
    return NightSummary(
        run_date=date(2026, 3, 2),
        state="completed",
        dataset="shop",
        champion_version="3",
        warnings=(Warned(table="raw_items", expectation="No gaps.", found="two gaps"),),
        links=Links(prefect_run="http://127.0.0.1:4200/runs/x", lists="var/lists/latest"),
        versions={"metarec": "0.1.0+abc"},
    )


@pytest.fixture(scope="session")
def full(night: NightSummary, profile: ListsProfile) -> NightReport:
    """A report with all frames."""
    return NightReport(
        night,
        frontier=frontier(),
        chosen=ChosenPoint("mmr", 0.25),
        list_metrics=pl.DataFrame({"metric": ["novelty", "gini"], "value": [9.5, 0.75]}),
        reliability=reliability(),
        learner="average",
        explanations=pl.DataFrame({"metric": ["completeness"], "value": [1e-7]}),
        explanation_curves=curves(),
        lists=profile,
    )


@pytest.fixture(scope="session")
def world() -> SimpleNamespace:
    """Functions and names for tests."""
    return SimpleNamespace(
        frontier=frontier,
        reliability=reliability,
        curves=curves,
        lists=lists,
        sections=SECTIONS,
    )


@pytest.fixture(scope="session")
def parsed() -> Callable[[str], Page]:
    """Reads a page as a browser does."""
    return Page


@pytest.fixture
def file_of(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a page to a file."""

    def write(text: str) -> Path:
        path = tmp_path / "report.html"
        path.write_text(text, encoding="utf-8")
        return path

    return write
