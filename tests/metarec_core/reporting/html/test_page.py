"""One page, whole in itself: what it shows, what it never shows, and that it is the same twice."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import altair as alt
import polars as pl
import pytest

from metarec_core.errors import ValidationError
from metarec_core.reporting.html import ChosenPoint, NightReport, render_report
from metarec_core.reporting.html.charts import in_script
from metarec_core.reporting.html.theme import chart_config
from metarec_core.reporting.night import Failure, NightSummary, Warned

ROOT = Path(__file__).resolve().parents[4]
MOST_BYTES = 3_000_000
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u2028&\"'"

Parsed = Callable[[str], Any]


@pytest.fixture(scope="module")
def text(full: NightReport) -> str:
    return render_report(full)


def test_all_sections_are_there_in_order_and_in_the_menu(
    text: str, parsed: Parsed, world: SimpleNamespace
) -> None:
    page = parsed(text)
    assert page.sections == list(world.sections)
    for title in world.sections.values():
        assert page.text.count(title) >= 2, title
    for words in ("Night of 2026-03-02", "shop", "champion version", "metarec 0.1.0+abc"):
        assert words in page.text
    assert (
        "a",
        {"href": "http://127.0.0.1:4200/runs/x", "rel": "noopener noreferrer"},
    ) in page.tags
    assert "Lists var/lists/latest" in page.text


@pytest.mark.parametrize(
    ("gone", "sections"),
    [
        ({"frontier": None}, {"frontier"}),
        ({"list_metrics": None}, {"lists"}),
        ({"reliability": None}, {"reliability"}),
        ({"explanations": None}, set()),
        ({"explanations": None, "explanation_curves": None}, {"explanations"}),
        ({"lists": None}, {"spread", "flags"}),
    ],
)
def test_a_frame_that_is_missing_takes_its_section_along(
    full: NightReport, parsed: Parsed, world: SimpleNamespace, gone: dict, sections: set[str]
) -> None:
    page = parsed(render_report(replace(full, **gone)))
    assert page.sections == [key for key in world.sections if key not in sections]


def test_frames_without_rows_have_no_section(full: NightReport, parsed: Parsed) -> None:
    empty = {
        name: getattr(full, name).clear()
        for name in ("frontier", "list_metrics", "reliability", "explanations")
    }
    page = parsed(render_report(replace(full, **empty, explanation_curves=None, lists=None)))
    assert page.sections == ["warnings"]
    assert page.scripts == []


def test_the_barest_night_is_a_page_without_scripts(parsed: Parsed) -> None:
    night = NightSummary(run_date=date(2026, 1, 1), state="failed", dataset=HOSTILE)
    page = parsed(render_report(NightReport(night)))
    assert page.sections == []
    assert page.scripts == []
    assert "alert(1)" in page.text
    assert "img" not in {tag for tag, _ in page.tags}


def test_a_failed_night_says_what_to_do(night: NightSummary, parsed: Parsed) -> None:
    error = ValidationError("x.csv", found="<b>", wanted="no <b>", next_step="repair it")
    failed = night.model_copy(
        update={"state": "failed", "failure": Failure.from_error("validate", error)}
    )
    page = parsed(render_report(NightReport(failed)))
    assert page.sections[0] == "failure"
    assert "Stage validate failed with ValidationError" in page.text
    assert "x.csv: found <b>; wanted no <b>." in page.text
    assert "Next step: repair it" in page.text


def test_it_is_small_and_holds_the_library_once(text: str, parsed: Parsed) -> None:
    assert len(text.encode()) < MOST_BYTES
    page = parsed(text)
    assert len(page.scripts) == 2
    assert text.count("window.vegaEmbed=") == 1


def test_nothing_in_it_asks_anybody(text: str, parsed: Parsed) -> None:
    page = parsed(text)
    [policy] = [
        attributes["content"]
        for tag, attributes in page.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    sources = [
        value
        for tag, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "action", "data") and tag != "a"
    ]
    assert sources == ["data:,"]
    # What the charts say, and the style sheet, name no address either.
    assert "http" not in page.scripts[-1]
    assert "url(" not in text[: text.index("<body>")]


def test_every_chart_is_valid_and_has_its_place(text: str, parsed: Parsed) -> None:
    page = parsed(text)
    places = {
        attributes["id"] for tag, attributes in page.tags if tag == "div" and "id" in attributes
    }
    assert set(page.charts) == places
    assert len(places) == 10 + 2 + 1 + 4
    kinds = {}
    for key, spec in page.charts.items():
        kinds[key.partition("-")[0]] = spec
    for spec in kinds.values():
        alt.LayerChart.from_dict(spec)
    for dark in (False, True):
        alt.LayerChart.from_dict({**spec, "config": chart_config(dark=dark)})


def test_the_same_record_gives_the_same_bytes(full: NightReport, text: str) -> None:
    assert render_report(full) == text


CHILD = """
import hashlib, runpy, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from metarec_core.reporting.html import NightReport, render_report
from metarec_core.reporting.night import NightSummary
world = runpy.run_path(sys.argv[2])
night = NightSummary(run_date="2026-03-02", state="completed", dataset="d")
report = NightReport(night, frontier=world["frontier"](), reliability=world["reliability"]())
print(hashlib.sha256(render_report(report).encode()).hexdigest())
"""


@pytest.mark.slow
def test_another_process_writes_the_same_bytes() -> None:
    """Sets and hashes of strings are ordered differently there."""
    conftest = str(Path(__file__).with_name("conftest.py"))
    digests = [
        subprocess.run(
            [sys.executable, "-c", CHILD, str(ROOT), conftest],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert digests[0] == digests[1]
    assert re.fullmatch(r"[0-9a-f]{64}\n", digests[0])
    assert digests[0] != f"{hashlib.sha256(b'').hexdigest()}\n"


def test_text_from_data_stays_text(full: NightReport, parsed: Parsed) -> None:
    assert full.frontier is not None
    assert full.reliability is not None
    assert full.explanation_curves is not None
    assert full.lists is not None
    told = pl.lit(HOSTILE)
    hostile = replace(
        full,
        night=full.night.model_copy(
            update={
                "dataset": HOSTILE,
                "champion_version": HOSTILE,
                "versions": {HOSTILE: HOSTILE},
                "warnings": (Warned(table=HOSTILE, expectation=HOSTILE, found=HOSTILE),),
                "links": full.night.links.model_copy(
                    update={"mlflow_run": f"javascript:{HOSTILE}", "lists": HOSTILE}
                ),
            }
        ),
        frontier=full.frontier.with_columns(
            method=pl.when(pl.col("method") == "dpp").then(told).otherwise("method")
        ),
        chosen=ChosenPoint(HOSTILE, 0.5),
        reliability=full.reliability.with_columns(learner=told, segment=told),
        list_metrics=pl.DataFrame({"metric": [HOSTILE], "value": [1.0], "segment": [HOSTILE]}),
        explanations=pl.DataFrame({"metric": [HOSTILE], "value": [1.0]}),
        explanation_curves=full.explanation_curves.with_columns(curve=told),
        lists=replace(
            full.lists,
            flags=full.lists.flags.with_columns(flag=told),
            short=full.lists.short.with_columns(note=told),
        ),
    )
    page = parsed(render_report(hostile))
    assert len(page.scripts) == 2
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert not [
        attributes
        for _, attributes in page.tags
        if any(name.startswith("on") for name in attributes)
    ]
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert all(str(link).startswith(("#", "http://127.0.0.1:4200/")) for link in links)
    assert "alert(1)" in json.dumps(page.charts)


def test_what_json_cannot_hold_leaves_a_gap(full: NightReport, parsed: Parsed) -> None:
    assert full.frontier is not None
    assert full.reliability is not None
    assert full.explanation_curves is not None
    odd = pl.when(pl.int_range(pl.len()) % 3 == 0)
    page = parsed(
        render_report(
            replace(
                full,
                frontier=full.frontier.with_columns(
                    value=odd.then(math.nan).otherwise(pl.col("value"))
                ),
                reliability=full.reliability.with_columns(
                    observed=odd.then(math.inf).otherwise(pl.col("observed"))
                ),
                explanation_curves=full.explanation_curves.with_columns(
                    value=odd.then(-math.inf).otherwise(pl.col("value"))
                ),
                list_metrics=pl.DataFrame({"metric": ["a", "b"], "value": [math.nan, None]}),
                explanations=pl.DataFrame({"metric": ["a", "b"], "value": [math.nan, None]}),
            )
        )
    )
    assert set(page.sections) >= {"frontier", "reliability", "explanations", "lists"}
    assert not re.search(r"\b(NaN|Infinity)\b", in_script(page.charts))


@pytest.mark.slow
@pytest.mark.browser
def test_a_browser_draws_every_chart_in_both_schemes_and_asks_nobody(
    text: str, file_of: Callable[[str], Path], parsed: Parsed
) -> None:
    import shutil

    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    assert chromium, "this test needs Debian's chromium"
    path = file_of(text)
    n_charts = len(parsed(text).charts)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        grounds = set()
        for scheme in ("light", "dark"):
            for width in (1280, 400):
                page = browser.new_page(
                    color_scheme=scheme, viewport={"width": width, "height": 900}
                )
                asked, complaints = list[str](), list[str]()
                page.on("request", lambda request, asked=asked: asked.append(request.url))
                page.on("console", lambda line, to=complaints: to.append(line.text))
                page.on("pageerror", lambda error, to=complaints: to.append(str(error)))
                page.goto(path.as_uri())
                page.wait_for_function(
                    "n => document.querySelectorAll('.chart svg').length === n", arg=n_charts
                )
                assert asked == [path.as_uri()]
                assert complaints == []
                # Nothing is wider than the window.
                assert page.evaluate("document.documentElement.scrollWidth") == width
                drawn = page.evaluate(
                    "[...document.querySelectorAll('.chart svg')]"
                    ".map(svg => svg.querySelectorAll('path, line').length)"
                )
                assert min(drawn) > 5
                grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
                page.close()
        browser.close()
    assert len(grounds) == 2
