"""Data Docs as one site for all suites: readable offline, without scripts or third parties."""

from __future__ import annotations

import fcntl
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from metarec_core.errors import StorageError
from metarec_core.home import Home
from metarec_core.storage import publishing, write_json
from tasks.quality.index_page import render_index
from tasks.quality.report import Failure

REPORTS = "reports"
PAGES = ("validations", "expectations")
STYLE = Path(__file__).with_name("site.css")

# Great Expectations' pages load their styles, scripts and logo from seven hosts, one of which is
# told an id of the installation, and their front page is drawn by those scripts. The pages'
# tables are plain HTML and need none of it.
FOREIGN = (
    re.compile(r"<script\b.*?</script>", re.DOTALL),
    re.compile(r"<style\b.*?</style>", re.DOTALL),
    re.compile(r"<link\b[^>]*>"),
    re.compile(r"<img\b[^>]*>"),
    re.compile(r"<footer\b.*?</footer>", re.DOTALL),
)


class SuitePage(BaseModel):
    """What the front page says of one suite; kept in the site until the suite is judged again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    suite: str
    table: str
    rows: int
    evaluated: int
    left_out: int
    failures: list[Failure]
    judged_at: datetime | None = None
    details: str | None = None
    """Page of the suite's results, relative to the site."""


def publish_site(home: Home, rendered: Path, pages: Sequence[SuitePage]) -> None:
    """Replace these suites' pages in the home's Data Docs and draw its front page anew.

    Pages of other suites stay: a night judges raw, cleaned and recommended tables one after
    another. The site is replaced as a whole, one process at a time.

    Args:
        home: Where the site is.
        rendered: Pages of these suites as Great Expectations rendered them.
        pages: The suites' results.

    Raises:
        StorageError: If the site cannot be read or written.
    """
    try:
        with _one_at_a_time(home), publishing(home.data_docs) as site:
            if home.data_docs.exists():
                shutil.copytree(home.data_docs, site, dirs_exist_ok=True)
            for page in pages:
                _replace(site, rendered, page)
            known = [
                SuitePage.model_validate_json(path.read_text(encoding="utf-8"))
                for path in sorted((site / REPORTS).glob("*.json"))
            ]
            style = STYLE.read_text(encoding="utf-8")
            (site / "index.html").write_text(render_index(known, style), encoding="utf-8")
    except (OSError, ValueError) as error:
        raise StorageError(
            f"Data Docs {home.data_docs}",
            found=f"{type(error).__name__}: {error}",
            wanted="a site that can be read and replaced",
            next_step="remove the directory and run again; check free space and permissions",
        ) from error


def _replace(site: Path, rendered: Path, page: SuitePage) -> None:
    shutil.rmtree(site / "validations" / page.suite, ignore_errors=True)
    written: dict[str, Path] = {}
    for kind in PAGES:
        for source in sorted((rendered / kind).rglob("*.html")):
            relative = source.relative_to(rendered)
            if page.suite not in (relative.parts[1], relative.stem):
                continue
            target = site / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_self_contained(source.read_text(encoding="utf-8")), encoding="utf-8")
            written[kind] = relative
    write_json(
        site / REPORTS / f"{page.suite}.json",
        page.model_copy(
            update={
                "judged_at": datetime.now(UTC).replace(microsecond=0),
                "details": written["validations"].as_posix(),
            }
        ),
    )


def _self_contained(html: str) -> str:
    for pattern in FOREIGN:
        html = pattern.sub("", html)
    style = f"<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n  </head>"
    return html.replace("</head>", style, 1)


@contextmanager
def _one_at_a_time(home: Home) -> Iterator[None]:
    with (home.root / ".data_docs.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
