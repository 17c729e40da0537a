"""The protocols by name, and the datasets that each reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from metarec_core.config import BenchmarkConfig
from metarec_core.evaluation.protocols import p1, p2, p3, p4, p5
from metarec_core.evaluation.protocols.corpus import Corpus
from metarec_core.evaluation.protocols.study import Study

Studies = Callable[[Mapping[str, Corpus], BenchmarkConfig], Iterator[Study]]


@dataclass(frozen=True, slots=True)
class ProtocolSpec:
    """One protocol.

    Attributes:
        title: What it asks, in a line.
        datasets: Folder under the data directory by name of the descriptor.
        studies: Makes its studies from the corpora, by name of the descriptor.
        headline: Metrics of the printed table.
    """

    title: str
    datasets: Mapping[str, str]
    studies: Studies
    headline: tuple[str, ...]


ML_1M = "ml-1m-content"
_ML_1M = {ML_1M: "ml-1m"}
_RATING = ("mae", "rmse", "ndcg_at_3", "nll", "coverage_90", "ece")
_LIST = ("ndcg_at_10", "recall_at_20")


def _by_folder(corpora: Mapping[str, Corpus], folders: Mapping[str, str]) -> dict[str, Corpus]:
    return {folder: corpora[name] for name, folder in folders.items()}


_P3 = {"ml-100k": "ml-100k", **_ML_1M}
_P4 = {"ml-100k": "ml-100k", "ml-latest-small": "ml-latest-small"}

PROTOCOLS: Mapping[str, ProtocolSpec] = {
    "p1": ProtocolSpec(
        "ratings of cold users and items, MovieLens 1M",
        _ML_1M,
        lambda corpora, config: p1.studies(corpora[ML_1M], config),
        _RATING,
    ),
    "p2": ProtocolSpec(
        "lists of cold users, full catalogue, MovieLens 1M",
        _ML_1M,
        lambda corpora, config: p2.studies(corpora[ML_1M], config),
        _LIST,
    ),
    "p3": ProtocolSpec(
        "five of ten items, MovieLens 100K and 1M",
        _P3,
        lambda corpora, config: p3.studies(_by_folder(corpora, _P3), config),
        ("precision_at_5", "ndcg_at_5", "mrr_at_5"),
    ),
    "p4": ProtocolSpec(
        "the future, MovieLens 100K and latest-small",
        _P4,
        lambda corpora, config: p4.studies(_by_folder(corpora, _P4), config),
        _LIST,
    ),
    "p5": ProtocolSpec(
        "cold items, MovieLens 1M",
        _ML_1M,
        lambda corpora, config: p5.studies(corpora[ML_1M], config),
        (*_LIST, "mae"),
    ),
}
