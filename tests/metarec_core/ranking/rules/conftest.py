"""A small night: eight items, four users, rules from a YAML and a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pytest

from metarec_core.episodes.types import InteractionMatrix
from metarec_core.ranking.rules import (
    CompiledRules,
    ItemFacts,
    Rules,
    RulesDocument,
    compile_rules,
    item_facts,
)
from metarec_core.ranking.rules.table import check_table

_COLUMNS = {
    "rule": pl.String,
    "item_id": pl.String,
    "user_id": pl.String,
    "segment": pl.String,
    "from": pl.Date,
    "until": pl.Date,
    "position": pl.Int64,
}


@dataclass
class Night:
    """What rules are compiled for; the date is 2024-03-10."""

    genres: Sequence[Sequence[str] | str | None] = (
        ["Drama"],
        ["Horror"],
        ["Horror"],
        ["Horror"],
        ["Drama"],
        ["Documentary"],
        [],
        ["Documentary"],
    )
    histories: Sequence[Sequence[int]] = ((), (0,), (0, 1, 2, 3, 4), (7,))
    times: Sequence[int] | None = None
    run_date: date = date(2024, 3, 10)
    k: int = 3
    more: dict[str, Any] = field(default_factory=dict)

    def rules(self, rows: Sequence[dict[str, Any]] = (), **document: Any) -> Rules:
        raw = pl.DataFrame(list(rows), schema=_COLUMNS)
        table, findings = check_table(raw, "rules table t.csv")
        return Rules(
            RulesDocument.model_validate(document),
            table,
            name="rules document r.yaml",
            table_name="rules table t.csv",
            findings=tuple(findings) if rows else (),
        )

    def compile(
        self, rows: Sequence[dict[str, Any]] = (), facts: ItemFacts | None = None, **document: Any
    ) -> CompiledRules:
        rules = self.rules(rows, **document)
        catalogue = pl.DataFrame({"item_id": [f"i{n}" for n in range(len(self.genres))]})
        items = catalogue.with_columns(
            pl.Series("genres", self.genres, dtype=pl.List(pl.String)), title=pl.lit("T")
        )
        flat = [item for row in self.histories for item in row]
        counts = [len(row) for row in self.histories]
        asked = {
            "catalogue": catalogue,
            "user_ids": pl.Series([f"u{n}" for n in range(len(counts))], dtype=pl.String),
            "histories": InteractionMatrix(
                indptr=np.cumsum([0, *counts]).astype(np.int64),
                items=np.array(flat, dtype=np.int64),
                values=np.ones(len(flat), dtype=np.float32),
                times=None if self.times is None else np.array(self.times, dtype=np.int64),
            ),
            "run_date": self.run_date,
            "k": self.k,
            "facts": facts or item_facts(rules, items, catalogue),
        }
        return compile_rules(rules, **asked | self.more)


@pytest.fixture
def night() -> Callable[..., Night]:
    return Night
