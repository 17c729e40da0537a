"""Rules from their files: the document, and the table that it names."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from metarec_core.ranking.rules.document import RulesDocument, read_document
from metarec_core.ranking.rules.findings import RuleFinding
from metarec_core.ranking.rules.table import RULES_SCHEMA, read_table


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules as they were declared.

    Attributes:
        document: Settings of all lists.
        table: Rules of single items, ``RULES_SCHEMA``.
        name: What messages call the document.
        table_name: What messages call the table.
        digest: SHA-256 of both files. Whoever keeps results by their inputs needs it: the path
            stays the same while rules change.
        findings: What reading them had to tell.
    """

    document: RulesDocument
    table: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=RULES_SCHEMA))
    name: str = "rules document"
    table_name: str = "rules table"
    digest: str = ""
    findings: tuple[RuleFinding, ...] = ()


def load_rules(path: Path | str) -> Rules:
    """Read a rules document and its table.

    Raises:
        ConfigError: If a file cannot be read or does not hold legal rules.
    """
    path = Path(path).expanduser()
    document = read_document(path)
    hashed = hashlib.sha256(path.read_bytes())
    if document.table is None:
        return Rules(document, name=f"rules document {path}", digest=hashed.hexdigest())
    place = path.parent / Path(document.table).expanduser()
    table, findings = read_table(place)
    with place.open("rb") as stream:
        hashed.update(hashlib.file_digest(stream, "sha256").digest())
    return Rules(
        document,
        table,
        name=f"rules document {path}",
        table_name=f"rules table {place}",
        digest=hashed.hexdigest(),
        findings=tuple(findings),
    )
