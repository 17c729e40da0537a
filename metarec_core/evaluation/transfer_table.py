"""From the figures of a transfer to flat rows, a document and lines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from metarec_core.config import Config
from metarec_core.evaluation.bootstrap import bootstrap_interval
from metarec_core.evaluation.protocols.corpus import Corpus
from metarec_core.evaluation.transfer import METRIC, POPULARITY, SCRATCH, SCRATCH_KNOWN, Transferred
from metarec_core.storage import code_version, hash_json

Row = dict[str, Any]

USERS_FILE = "users.json"
"""Ids of the test users, beside the document."""

_TITLES = {
    POPULARITY: "popularity",
    SCRATCH: "from scratch",
    SCRATCH_KNOWN: "from scratch, no item new",
    "features": "from its features",
    "features_and_items": "from its features and items",
}


def transfer_rows(
    figures: pl.DataFrame, learner: str, *, seed: int, resamples: int, confidence: float
) -> list[Row]:
    """A row for each start, fraction and support size; ``k`` null for the mean over sizes.

    A user's figures are averaged over seeds (and sizes) first. ``best_baseline`` is the better of
    the two learners from scratch on these very tasks, ``ratio`` the value over that one's,
    ``diff_low`` and ``diff_high`` the ends of the paired bootstrap interval over users of the
    difference to it. Rows have the fields of every benchmark, and ``start``,
    ``fraction`` and ``ratio``.

    Args:
        figures: See :class:`Transferred`.
        learner: The learner's name.
        seed: Seed of the resamples.
        resamples: How many.
        confidence: Level of the intervals.
    """
    rows: list[Row] = []
    sizes: list[int | None] = [None, *sorted(figures["k"].unique().to_list())]
    for fraction in sorted(figures["fraction"].unique().to_list()):
        for k in sizes:
            asked = figures.filter(pl.col("fraction") == fraction)
            asked = asked if k is None else asked.filter(pl.col("k") == k)
            wide = (
                asked.group_by("start", "user", maintain_order=True)
                .agg(pl.col(METRIC).mean())
                .pivot("start", index="user", values=METRIC)
                .sort("user")
            )
            best = max((SCRATCH, SCRATCH_KNOWN), key=lambda name: _mean(wide[name]))
            scratch = wide[best].to_numpy()
            for start in (name for name in wide.columns if name != "user"):
                values = wide[start].to_numpy()
                low, high = bootstrap_interval(
                    values - scratch,
                    generator=np.random.default_rng(seed),
                    resamples=resamples,
                    confidence=confidence,
                )
                itself = start == best
                rows.append(
                    {
                        "learner": POPULARITY if start == POPULARITY else learner,
                        "start": None if start == POPULARITY else start,
                        "state": "user_cold",
                        "fraction": fraction,
                        "k": k,
                        "metric": METRIC,
                        "value": float(values.mean()),
                        "se": float(values.std(ddof=1)) / math.sqrt(len(values)),
                        "best_baseline": None if itself else f"{learner} {_TITLES[best]}",
                        "ratio": float(values.mean() / max(scratch.mean(), 1e-12)),
                        "diff_low": None if itself else low,
                        "diff_high": None if itself else high,
                    }
                )
    return rows


def _mean(values: pl.Series) -> float:
    return float(values.to_numpy().mean())


def transfer_document(
    config: Config, corpora: Mapping[str, Corpus], found: Transferred, rows: Sequence[Row]
) -> dict[str, Any]:
    """Everything needed to repeat the rows, and the rows.

    Args:
        config: All settings.
        corpora: Source and target.
        found: What the study gave.
        rows: Its flat rows.
    """
    return {
        "protocol": "transfer",
        "source": config.transfer.source,
        "target": config.transfer.target,
        "rows": list(rows),
        "shared": dict(found.shared),
        "seeds": list(config.transfer.seeds),
        "settings": transfer_settings(config),
        "data": {part: corpus.fingerprint for part, corpus in corpora.items()},
        "users": {"file": USERS_FILE, "hash": hash_json(found.test_users)},
        "version": code_version(),
    }


def transfer_settings(config: Config) -> dict[str, Any]:
    """The settings that a transfer depends on."""
    asked = config.transfer.model_dump(mode="json")
    # Where the files lie changes no figure.
    asked.pop("data")
    name = config.transfer.learner
    return {
        "transfer": asked,
        "seed": config.seed,
        "cleaning": config.cleaning.model_dump(mode="json"),
        "episodes": config.episodes.model_dump(mode="json"),
        "threads": config.training.threads,
        "learners": {name: getattr(config.learners, name).model_dump(mode="json")},
    }


def transfer_lines(document: Mapping[str, Any]) -> list[str]:
    """The document as a table for a terminal: the mean over support sizes, then each size."""
    shared, rows = document["shared"], document["rows"]
    sizes = dict.fromkeys(row["k"] for row in rows)
    columns, items = shared["columns"], f"{shared['items']} of {shared['catalogue']} items"
    lines = [
        f"Transfer: {document['source']} ({shared['source_users']} users) to {document['target']}",
        f"shared: {columns} feature columns, {items}",
        f"{shared['test_users']} test users, {len(document['seeds'])} seeds",
    ]
    for k in sizes:
        what = "mean over support sizes" if k is None else f"{k} known"
        lines += ["", f"NDCG@10, {what} (ratio and interval: against the better from scratch)"]
        for row in (row for row in rows if row["k"] == k):
            users = shared[f"users_at_{row['fraction']:g}"]
            title = _TITLES[row["start"] or POPULARITY]
            text = f"{row['fraction']:6.0%} {users:5d} users  {title:28} {row['value']:.4f}"
            if row["diff_low"] is not None:
                text += f"  x {row['ratio']:.2f}  {row['diff_low']:+.4f} to {row['diff_high']:+.4f}"
            lines.append(text)
    return lines
