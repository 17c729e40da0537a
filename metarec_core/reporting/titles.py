"""How metrics are called where people read them."""

from __future__ import annotations

_TITLES = {
    "ndcg_at_1": "NDCG@1",
    "ndcg_at_3": "NDCG@3",
    "ndcg_at_5": "NDCG@5",
    "ndcg_at_10": "NDCG@10",
    "precision_at_5": "P@5",
    "mrr_at_5": "MRR@5",
    "ece": "Calibration error of P(relevant)",
    "ece_by_chance": "Calibration error of P(relevant) by chance",
    "ece_uncalibrated": "Calibration error of the normal forecast",
    "recall_at_20": "Recall@20",
    "mae": "MAE",
    "rmse": "RMSE",
    "nll": "NLL",
    "coverage_50": "50% interval coverage",
    "coverage_90": "90% interval coverage",
    "catalogue_coverage_at_10": "Catalogue coverage@10",
}


def metric_title(name: str) -> str:
    """The printed name of a metric or a curve; an unknown one keeps its words.

    >>> metric_title("ndcg_at_10"), metric_title("validation_nll"), metric_title("step_size")
    ('NDCG@10', 'validation NLL', 'step size')
    """
    if name in _TITLES:
        return _TITLES[name]
    for metric, title in _TITLES.items():
        if name.endswith(f"_{metric}"):
            return f"{name.removesuffix(metric).replace('_', ' ')}{title}"
    return name.replace("_", " ")
