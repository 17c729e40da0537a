"""Metrics, evaluated tasks, paired bootstrap and the gate."""

from metarec_core.evaluation.align import AlignedLearner, align
from metarec_core.evaluation.bootstrap import (
    PairedDifference,
    bootstrap_interval,
    paired_difference,
)
from metarec_core.evaluation.compare import Contestant
from metarec_core.evaluation.evaluate import TASK_SCHEMA, Adaptable, evaluate
from metarec_core.evaluation.gate import decide
from metarec_core.evaluation.summarise import ALL_SIZES, METRICS, SUMMARY_SCHEMA, summarise
from metarec_core.evaluation.verdict import Comparison, Demand, Verdict
from metarec_core.evaluation.wording import describe_rule

__all__ = [
    "ALL_SIZES",
    "METRICS",
    "SUMMARY_SCHEMA",
    "TASK_SCHEMA",
    "Adaptable",
    "AlignedLearner",
    "Comparison",
    "Contestant",
    "Demand",
    "PairedDifference",
    "Verdict",
    "align",
    "bootstrap_interval",
    "decide",
    "describe_rule",
    "evaluate",
    "paired_difference",
    "summarise",
]
