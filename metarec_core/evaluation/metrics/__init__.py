"""Metrics of one batch of tasks, one concept a file; every function returns one figure a task."""

from metarec_core.evaluation.metrics._calibration import (
    calibration_error,
    gaussian_nll,
    interval_coverage,
    relevance_probability,
)
from metarec_core.evaluation.metrics._categories import (
    category_calibration_error,
    category_coverage,
    category_entropy,
)
from metarec_core.evaluation.metrics._coverage import catalogue_coverage
from metarec_core.evaluation.metrics._error import (
    absolute_error,
    root_squared_error,
    squared_error,
)
from metarec_core.evaluation.metrics._exposure import exposure, gini, popularity_lift
from metarec_core.evaluation.metrics._intra_list import intra_list_diversity
from metarec_core.evaluation.metrics._ndcg import graded_ndcg, ndcg
from metarec_core.evaluation.metrics._novelty import novelty
from metarec_core.evaluation.metrics._precision import precision, reciprocal_rank
from metarec_core.evaluation.metrics._ranking import chance_order, hits, top_items
from metarec_core.evaluation.metrics._recall import recall
from metarec_core.evaluation.metrics._serendipity import serendipity, unexpectedness

__all__ = [
    "absolute_error",
    "calibration_error",
    "catalogue_coverage",
    "category_calibration_error",
    "category_coverage",
    "category_entropy",
    "chance_order",
    "exposure",
    "gaussian_nll",
    "gini",
    "graded_ndcg",
    "hits",
    "interval_coverage",
    "intra_list_diversity",
    "ndcg",
    "novelty",
    "popularity_lift",
    "precision",
    "recall",
    "reciprocal_rank",
    "relevance_probability",
    "root_squared_error",
    "serendipity",
    "squared_error",
    "top_items",
    "unexpectedness",
]
