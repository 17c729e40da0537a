"""Names of figures as headings."""

from __future__ import annotations

from metarec_core.reporting.titles import metric_title


def heading(name: str) -> str:
    """The printed name of a figure, its first letter large.

    >>> heading("catalogue_coverage"), heading("ndcg_at_10"), heading("deletion_auc")
    ('Catalogue coverage', 'NDCG@10', 'Deletion AUC')
    """
    title = metric_title(name).replace(" auc", " AUC")
    return title[:1].upper() + title[1:]
