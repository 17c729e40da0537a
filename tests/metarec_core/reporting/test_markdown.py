"""Outside text stays text, as a real Markdown parser sees it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metarec_core.reporting.markdown import block, cell, code, escape, link, table

markdown_it = pytest.importorskip("markdown_it")

NASTY = [
    "a|b",
    "x\ny",
    "<script>",
    "`",
    "``` \n#",
    "**bold**",
    "[t](u)",
    "\\",
    "&lt;",
    "1. a",
    "- a",
]
ANY_TEXT = st.sampled_from(NASTY) | st.text(
    alphabet=st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f"),
    max_size=30,
)


def parse(text: str):
    return markdown_it.MarkdownIt("commonmark").enable("table").parse(text)


def plain(token) -> str:
    return "".join(
        child.content for child in token.children if child.type in {"text", "text_special"}
    )


def squeezed(text: str) -> str:
    return " ".join(text.split())


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(ANY_TEXT, ANY_TEXT), min_size=1, max_size=3))
def test_cells_keep_their_text_and_their_column(rows: list[tuple[str, str]]) -> None:
    text = table(("left", "right"), ([cell(part) for part in row] for row in rows))
    tokens = parse(text)
    assert tokens[0].type == "table_open"
    cells = [plain(token) for token in tokens if token.type == "inline"]
    wanted = [squeezed(part) or "–" for row in rows for part in row]
    assert [squeezed(found) for found in cells] == ["left", "right", *wanted]


@settings(max_examples=150, deadline=None)
@given(ANY_TEXT.filter(str.strip))
def test_a_paragraph_stays_a_paragraph(text: str) -> None:
    tokens = parse(escape(text))
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    assert squeezed(plain(tokens[1])) == squeezed(text)


@settings(max_examples=100, deadline=None)
@given(ANY_TEXT.filter(str.strip))
def test_code_and_blocks_hold_anything(text: str) -> None:
    (span,) = [child for child in parse(code(text))[1].children if child.content]
    assert (span.type, span.content.strip()) == ("code_inline", squeezed(text))
    (fence,) = parse(block(text))
    assert (fence.type, fence.content.rstrip()) == ("fence", text.rstrip())


@pytest.mark.parametrize("target", ["http://h:4200/runs/a(b)", "https://h/a?b=c&d=%20#e"])
def test_addresses_become_links(target: str) -> None:
    children = parse(link("run", target))[1].children
    assert children[0].type == "link_open"


@pytest.mark.parametrize(
    "target", ["var/lists/latest", "javascript:alert(1)", "http://a b", "C:\\x"]
)
def test_anything_else_does_not(target: str) -> None:
    children = parse(link("lists", target))[1].children
    assert [child.type for child in children] == ["text", "code_inline"]
