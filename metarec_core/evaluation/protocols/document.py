"""The benchmark as one JSON object: rows, and everything needed to repeat them to the digit."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from metarec_core.config import Config
from metarec_core.evaluation.protocols.corpus import Corpus
from metarec_core.evaluation.protocols.published import PUBLISHED
from metarec_core.evaluation.protocols.registry import PROTOCOLS
from metarec_core.evaluation.protocols.run import Results
from metarec_core.evaluation.protocols.table import CHALLENGERS, Row
from metarec_core.storage import code_version, hash_json

USERS_FILE = "users.json"
"""Ids of validation and test users by study, beside the document."""

_VERSIONED = ("torch", "numpy", "polars", "duckdb", "scikit-learn")


def document(
    config: Config,
    corpora: Mapping[str, Corpus],
    results: Results,
    rows: list[Row],
    duels: list[Row],
) -> dict[str, Any]:
    """Everything about a benchmark but the lists of users, of which it has the hash.

    Args:
        config: All settings.
        corpora: The datasets read, by descriptor.
        results: What was run.
        rows: Its flat rows.
        duels: Differences of our learners to each baseline.
    """
    protocol = config.benchmark.protocol
    names = list(dict.fromkeys(timing.learner for timing in results.timings))
    users = user_lists(results)
    return {
        "protocol": protocol,
        "title": PROTOCOLS[protocol].title,
        "rows": rows,
        "duels": duels,
        "failures": [asdict(failure) for failure in results.failures],
        "known": [asdict(one) for one in PUBLISHED.get(protocol, [])],
        "challengers": sorted(CHALLENGERS & set(names)),
        "seeds": list(config.benchmark.seeds),
        "settings": settings(config),
        "data": {name: corpus.fingerprint for name, corpus in corpora.items()},
        "studies": {
            name: {
                "seed": study["seed"],
                "facts": study["facts"],
                "users": {
                    part: {"count": len(ids), "hash": hash_json(ids)}
                    for part, ids in study["users"].items()
                },
            }
            for name, study in results.studies.items()
        },
        "users": {"file": USERS_FILE, "hash": hash_json(users)},
        "timings": [
            {
                "learner": timing.learner,
                "study": timing.study,
                "fit_seconds": timing.fit_seconds,
                "adapt_seconds": timing.adapt_seconds,
                "tasks": timing.tasks,
                "chosen": timing.chosen,
            }
            for timing in results.timings
        ],
        "versions": {
            "metarec": code_version(),
            "python": platform.python_version(),
            **{name: version(name) for name in _VERSIONED},
        },
    }


def user_lists(results: Results) -> dict[str, dict[str, list[str]]]:
    """Ids of validation and test users, by study and part."""
    return {name: study["users"] for name, study in results.studies.items()}


def learners_of(config: Config) -> tuple[str, ...]:
    """Names of the learners to compare: those asked for, or all."""
    return config.benchmark.learners or tuple(type(config.learners).model_fields)


def settings(config: Config) -> dict[str, Any]:
    """The settings that a benchmark depends on."""
    asked = config.benchmark.model_dump(mode="json")
    # Where the files lie changes no figure; what is in them is in their fingerprint.
    asked.pop("data")
    return {
        "benchmark": asked,
        "cleaning": config.cleaning.model_dump(mode="json"),
        "max_support": config.episodes.max_support,
        "max_query": config.episodes.max_query,
        "device": config.training.device,
        "threads": config.training.threads,
        "learners": {
            name: getattr(config.learners, name).model_dump(mode="json")
            for name in learners_of(config)
        },
    }
