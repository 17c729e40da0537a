"""Metrics of one batch of tasks, one concept a file; every function returns one figure a task."""

from metarec_core.evaluation.metrics._calibration import gaussian_nll, interval_coverage
from metarec_core.evaluation.metrics._coverage import catalogue_coverage
from metarec_core.evaluation.metrics._error import absolute_error, root_squared_error
from metarec_core.evaluation.metrics._ndcg import ndcg
from metarec_core.evaluation.metrics._ranking import hits, top_items
from metarec_core.evaluation.metrics._recall import recall

__all__ = [
    "absolute_error",
    "catalogue_coverage",
    "gaussian_nll",
    "hits",
    "interval_coverage",
    "ndcg",
    "recall",
    "root_squared_error",
    "top_items",
]
