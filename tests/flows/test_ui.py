"""A person starts a night with the form in Prefect's pages and follows it to MLflow.

Screenshots go to ``$METAREC_SCREENSHOTS``, or to the test's temporary directory.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import polars as pl
import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

from flows.services.health import call

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.browser, pytest.mark.timeout(900)]

SWITCHES = [
    "--no-sandbox",  # the browser sees this machine's own pages only
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-sync",
]
NIGHT_MILLISECONDS = 420_000


class Window:
    """A browser's page that counts its screenshots and the hosts that it asked."""

    def __init__(self, page: Page, screenshots: Path) -> None:
        self.page = page
        self.screenshots = screenshots
        self.count = 0
        self.hosts: set[str] = set()
        page.context.on("request", lambda request: self._note(request.url))

    def _note(self, url: str) -> None:
        if host := urlsplit(url).hostname:
            self.hosts.add(host)

    def shoot(self, name: str, page: Page | None = None) -> None:
        self.count += 1
        file = self.screenshots / f"{self.count}-{name}.png"
        (page or self.page).screenshot(path=file, full_page=True)


@pytest.fixture
def window(tmp_path: Path) -> Iterator[Window]:
    browser_path = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser_path is None:
        pytest.fail("chromium is not on the PATH; on Debian: apt-get install chromium")
    screenshots = Path(os.environ.get("METAREC_SCREENSHOTS") or tmp_path / "screenshots")
    screenshots.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=SWITCHES)
        page = browser.new_page(viewport={"width": 1400, "height": 1200})
        page.set_default_timeout(30_000)
        expect.set_options(timeout=30_000)
        yield Window(page, screenshots)
        browser.close()


def field(page: Page, *path: str) -> Locator:
    """The input of a setting in the run form, by the titles of its sections and its own."""
    steps = (
        '//span[contains(@class, "schema-form-property__label")]'
        f'[normalize-space() = "{title} (Optional)"]'
        '/ancestor::div[contains(concat(" ", @class, " "), " schema-form-property ")][1]'
        for title in path
    )
    return page.locator(f"xpath={''.join(steps)}//*[self::input or self::textarea]")


def test_a_night_is_started_by_the_form_and_followed_to_mlflow(stack, window, own_dataset):
    page = window.page
    deployment = call(f"{stack.api}/deployments/name/nightly/nightly")["id"]

    page.goto(f"{stack.prefect}/deployments/deployment/{deployment}")
    expect(page.get_by_text("At 02:00 AM every day")).to_be_visible()
    page.get_by_text("Upcoming", exact=True).click()
    expect(page.get_by_text("auto-scheduled").nth(2)).to_be_visible()
    assert page.get_by_text("Scheduled for").count() >= 3
    window.shoot("upcoming-nights")

    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("Custom run").click()
    expect(page.get_by_text("Length of each list.")).to_be_visible()
    window.shoot("form")

    # A value out of bounds is refused before there is a run.
    length = field(page, "Recommend", "K")
    assert length.input_value() == "10"
    length.fill("0")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_text("0 is less than the minimum of 1").first).to_be_visible()
    window.shoot("refused")

    length.fill("5")
    page.locator('xpath=//label[normalize-space() = "Run Name"]/following::input[1]').fill(
        "started-by-hand"
    )
    field(page, "Dataset", "Name").fill(str(own_dataset.descriptor))
    field(page, "Learners", "Gaussian", "Loop", "Epochs").fill("2")
    window.shoot("form-filled")
    with page.expect_response(re.compile("/create_flow_run$")) as created:
        page.get_by_role("button", name="Submit").click()
    run = created.value.json()["id"]
    # The deployment's page shows a link to the run only until a worker takes it, and again
    # when it next asks for the list; the run's own page is always there.
    page.goto(f"{stack.prefect}/runs/flow-run/{run}")
    expect(page.get_by_text("started-by-hand").first).to_be_visible()
    expect(page.get_by_text("Completed", exact=True).first).to_be_visible(
        timeout=NIGHT_MILLISECONDS
    )
    window.shoot("completed")
    parameters = call(f"{stack.api}/flow_runs/{run}")["parameters"]
    assert parameters["config"]["recommend"]["k"] == 5

    page.get_by_text("Artifacts", exact=True).first.click()
    page.get_by_text("summary", exact=True).first.click()
    expect(page.get_by_text("Gate:").first).to_be_visible()
    window.shoot("summary")
    page.goto(f"{stack.prefect}/runs/flow-run/{run}")
    page.get_by_text("Artifacts", exact=True).first.click()
    page.get_by_text("mlflow-run", exact=True).first.click()
    link = page.get_by_role("link", name="MLflow run").first
    expect(link).to_be_visible()
    target = link.get_attribute("href")
    assert target is not None
    assert target.startswith(stack.mlflow)
    window.shoot("link-to-mlflow")
    with page.context.expect_page() as opened:
        link.click()
    tracked = opened.value
    expect(tracked.get_by_text("recommend.k", exact=True)).to_be_visible()
    window.shoot("mlflow-run", tracked)
    assert tracked.url == target

    lists = pl.read_parquet(stack.home.lists / "latest" / "recommendations.parquet")
    assert lists.group_by("user_id").len()["len"].max() == 5
    assert window.hosts == {"127.0.0.1"}, "a page called home"
