"""Business rules of lists: declared in YAML and a table, compiled to masks, kept in every list."""

from metarec_core.ranking.rules.assemble import (
    Assembled,
    QuotaPool,
    assemble,
    quota_pools,
)
from metarec_core.ranking.rules.compile import compile_rules
from metarec_core.ranking.rules.compiled import CompiledRules
from metarec_core.ranking.rules.document import RulesDocument
from metarec_core.ranking.rules.findings import RuleFinding
from metarec_core.ranking.rules.items import ItemCategories, ItemFacts, item_categories, item_facts
from metarec_core.ranking.rules.load import Rules, load_rules
from metarec_core.ranking.rules.notes import list_notes, rule_flags

__all__ = [
    "Assembled",
    "CompiledRules",
    "ItemCategories",
    "ItemFacts",
    "QuotaPool",
    "RuleFinding",
    "Rules",
    "RulesDocument",
    "assemble",
    "compile_rules",
    "item_categories",
    "item_facts",
    "list_notes",
    "load_rules",
    "quota_pools",
    "rule_flags",
]
