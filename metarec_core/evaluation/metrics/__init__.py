"""Metrics of one batch of tasks, one concept a file; every function returns one figure a task."""

from metarec_core.evaluation.metrics._calibration import (
    calibration_error,
    gaussian_nll,
    interval_coverage,
    relevance_probability,
)
from metarec_core.evaluation.metrics._coverage import catalogue_coverage
from metarec_core.evaluation.metrics._error import (
    absolute_error,
    root_squared_error,
    squared_error,
)
from metarec_core.evaluation.metrics._ndcg import graded_ndcg, ndcg
from metarec_core.evaluation.metrics._precision import precision, reciprocal_rank
from metarec_core.evaluation.metrics._ranking import chance_order, hits, top_items
from metarec_core.evaluation.metrics._recall import recall

__all__ = [
    "absolute_error",
    "calibration_error",
    "catalogue_coverage",
    "chance_order",
    "gaussian_nll",
    "graded_ndcg",
    "hits",
    "interval_coverage",
    "ndcg",
    "precision",
    "recall",
    "reciprocal_rank",
    "relevance_probability",
    "root_squared_error",
    "squared_error",
    "top_items",
]
