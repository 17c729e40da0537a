from __future__ import annotations

from pathlib import Path

import pytest

from metarec_core.errors import ConfigError
from metarec_core.ranking.rules import load_rules


def write(folder: Path, document: str, table: str | None = None) -> Path:
    (folder / "r.yaml").write_text(document)
    if table is not None:
        (folder / "t.csv").write_text(table)
    return folder / "r.yaml"


def test_the_table_is_found_beside_the_document(tmp_path, monkeypatch):
    path = write(tmp_path, "table: t.csv\n", "rule,item_id\ndeny,a\ndeny,a\n")
    monkeypatch.chdir("/")
    rules = load_rules(str(path))
    assert rules.table["item_id"].to_list() == ["a"]
    assert rules.name == f"rules document {path}"
    assert rules.table_name == f"rules table {tmp_path / 't.csv'}"
    assert [finding.kind for finding in rules.findings] == ["duplicated_rows"]


def test_without_a_table_there_are_only_settings(tmp_path):
    rules = load_rules(write(tmp_path, "consumed: allowed\n"))
    assert rules.table.is_empty()
    assert rules.document.consumed == "allowed"


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"rules table .*t\.csv: found FileNotFoundError"):
        load_rules(write(tmp_path, "table: t.csv\n"))


def test_the_digest_changes_with_either_file_and_only_then(tmp_path):
    digests = [
        load_rules(write(tmp_path, document, table)).digest
        for document, table in [
            ("table: t.csv\n", "rule,item_id\ndeny,a\n"),
            ("table: t.csv\n", "rule,item_id\ndeny,a\n"),
            ("table: t.csv\n", "rule,item_id\ndeny,b\n"),
            ("table: t.csv\nconsumed: allowed\n", "rule,item_id\ndeny,a\n"),
        ]
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
