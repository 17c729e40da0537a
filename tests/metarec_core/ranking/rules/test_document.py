from __future__ import annotations

from pathlib import Path

import pytest

from metarec_core.errors import ConfigError
from metarec_core.ranking.rules.document import (
    LARGEST_DOCUMENT,
    MOST_RULED,
    ConsumedAfter,
    RulesDocument,
    read_document,
)


@pytest.fixture
def written(tmp_path: Path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "rules.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_every_setting_is_read(written):
    document = read_document(
        written(
            "\ufefftable: rules.csv\nconsumed: {after_days: 90}\nmin_age_days: 7\n"
            "age_from: born\nunknown_age: open\ncategories: genres\n"
            "caps: {Horror: 2, Sci-Fi: 0}\nquotas: {Documentary: 1}\nunknown_items: error\n"
        )
    )
    assert document == RulesDocument(
        table="rules.csv",
        consumed=ConsumedAfter(after_days=90),
        min_age_days=7,
        age_from="born",
        unknown_age="open",
        categories="genres",
        caps={"Horror": 2, "Sci-Fi": 0},
        quotas={"Documentary": 1},
        unknown_items="error",
    )
    assert document.ruled == ("Documentary", "Horror", "Sci-Fi")


def test_an_empty_document_hides_what_was_consumed_and_nothing_else(written):
    assert read_document(written("# nothing yet\n")) == RulesDocument()
    assert RulesDocument().consumed == "never"


@pytest.mark.parametrize(
    ("text", "subject", "said"),
    [
        ("consumed: sometimes", "setting consumed:", "never, allowed or {after_days: N}"),
        ("consumed: {after_days: 0}", "setting consumed.after_days:", "found 0"),
        ("consumed: {after_days: yes}", "setting consumed.after_days:", "found True"),
        ("consumed: {after_days: 1, days: 2}", "setting consumed.days:", "one of after_days"),
        ("consumed: {}", "setting consumed.after_days:", "Field required"),
        ("min_age_days: 1.5", "setting min_age_days:", "found 1.5"),
        ("min_age_days: -1", "setting min_age_days:", "found -1"),
        ("unknown_age: maybe", "setting unknown_age:", "'closed' or 'open'"),
        ("unknown_items: ignore", "setting unknown_items:", "'warn' or 'error'"),
        ("table: ''", "setting table:", "found ''"),
        ("cap: {A: 1}", "setting cap:", "did you mean 'caps'?"),
        ("caps: {A: -1}\ncategories: g", "setting caps.A:", "found -1"),
        ("caps: {A: yes}\ncategories: g", "setting caps.A:", "found True"),
        ("caps: {1990: 3}\ncategories: g", "setting caps.1990:", "needs quotes"),
        ("quotas: {A: 0}\ncategories: g", "setting quotas.A:", "found 0"),
        ("caps: {A: 1}", "setting the whole:", "'categories' names the item feature"),
        (
            "caps: {A: 1}\nquotas: {A: 2}\ncategories: g",
            "setting the whole: found a contradiction",
            "'A' has quota 2 and cap 1",
        ),
        ("age_from: born", "setting the whole:", "'min_age_days' beside 'age_from'"),
        ("- a\n- b", "rules.yaml: found a list at the top", "such as 'consumed: never'"),
        ("a: [", "rules.yaml: found ParserError", "a readable YAML file"),
        ("table: !!python/object/apply:os.system ['true']", "ConstructorError", "python/object"),
        ("table: !!python/name:os.system", "ConstructorError", "could not determine"),
        ("caps: {A: 1, A: 2}\ncategories: g", "ConstructorError", "found the key 'A' twice"),
        ("consumed: never\nconsumed: allowed", "ConstructorError", "line 2, column 1"),
        ("a: &x [1]\nb: *x", "ComposerError", "found an alias"),
        ("{[1]: 2}", "ConstructorError", "unhashable key"),
        ("table: 2026-99-99", "ValueError", "month must be in 1..12"),
        ("[" * 50_000, "RecursionError", "a readable YAML file"),
        (b"table: \xff\xfe", "UnicodeDecodeError", "a readable YAML file"),
    ],
)
def test_a_wrong_document_is_refused_with_its_place(written, text, subject, said):
    path = written(text)
    with pytest.raises(ConfigError) as caught:
        read_document(path)
    assert str(path) in str(caught.value)
    assert subject in str(caught.value)
    assert said in str(caught.value)
    assert caught.value.next_step


def test_python_tags_run_nothing(written, tmp_path):
    victim = tmp_path / "made-by-yaml"
    with pytest.raises(ConfigError):
        read_document(written(f"table: !!python/object/apply:pathlib.Path.touch ['{victim}']"))
    assert not victim.exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: found FileNotFoundError"):
        read_document(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="found IsADirectoryError"):
        read_document(tmp_path)


def test_a_document_of_the_size_of_a_table_is_refused(written):
    path = written("# " + "x" * LARGEST_DOCUMENT)
    with pytest.raises(ConfigError, match="move rules of single items and users into the rules"):
        read_document(path)


def test_caps_and_quotas_together_name_a_bounded_number_of_categories():
    caps = {f"c{n}": 1 for n in range(MOST_RULED)}
    assert len(RulesDocument(categories="g", caps=caps, quotas={"c0": 1}).ruled) == MOST_RULED
    with pytest.raises(ValueError, match=f"at most {MOST_RULED} categories"):
        RulesDocument(categories="g", caps=caps, quotas={"other": 1})


def test_every_setting_is_described():
    for model in (RulesDocument, ConsumedAfter):
        assert all(field.description for field in model.model_fields.values())
