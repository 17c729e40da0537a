"""Data Docs: one site for the suites of a night, self-contained."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from metarec_core.home import Home
from tasks.quality import Options, QualityReport

Tables = dict[str, pl.DataFrame]

FOREIGN = re.compile(r"<(?:script|link|img|iframe)\b|@import|url\(", re.IGNORECASE)
LINK = re.compile(r'href="([^"#]+)"')


@pytest.fixture(scope="module")
def site(
    pristine: Callable[[], Tables],
    judge_in: Callable[..., QualityReport],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The site after raw tables with faults, and then lists, were judged."""
    home = Home(tmp_path_factory.mktemp("home"))
    tables = pristine()
    evil = pl.DataFrame(
        {"user_id": ["<script>alert(1)</script>"] * 2, "title": ["", ""], "source_row": [98, 99]}
    )
    faulty = {
        **tables,
        "users": pl.concat([tables["users"], evil]),
        "interactions": tables["interactions"].with_columns(value=pl.lit(9.0)),
    }
    report = judge_in("raw", faulty, home=home, options=Options(threads=1))
    assert not report.success
    assert report.docs == (home.data_docs / "index.html").relative_to(home.root)
    judge_in("recommendations", tables, home=home, options=Options(threads=1))
    return home.data_docs


def test_site_shows_every_suite_with_its_failures_and_rows(site: Path) -> None:
    index = (site / "index.html").read_text(encoding="utf-8")
    for text in (
        "raw_interactions",
        "raw_users",
        "raw_items",
        "recommendations",
        "166 of 166 rows at fault",
        "20 of 166 rows",
        "Correct the scale",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
    ):
        assert text in index
    assert index.index("raw_interactions</a>") < index.index("recommendations</a>")


def test_pages_are_self_contained_and_their_links_lead_somewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) == 1 + 2 * 4
    for page in pages:
        html = page.read_text(encoding="utf-8")
        assert not FOREIGN.search(html), page
        for target in LINK.findall(html):
            if not target.startswith("https://greatexpectations.io"):
                assert (page.parent / target).resolve().is_file(), (page, target)


def test_judging_again_replaces_a_suite_and_keeps_the_others(
    site: Path, healthy: Tables, judged: Callable[..., QualityReport]
) -> None:
    others = site / "validations" / "recommendations"
    kept = {page: page.read_bytes() for page in others.rglob("*.html")}
    (before,) = (site / "validations" / "raw_users").rglob("*.html")
    healthy["interactions"] = healthy["interactions"].with_columns(value=pl.lit(4.0))
    judged("raw", healthy, home=Home(site.parent), options=Options(threads=1))
    (after,) = (site / "validations" / "raw_users").rglob("*.html")
    assert before != after
    assert {page: page.read_bytes() for page in others.rglob("*.html")} == kept
    assert "166 of 166 rows at fault" not in (site / "index.html").read_text(encoding="utf-8")
    assert [path.name for path in site.parent.glob(".*")] == [".data_docs.lock"]
