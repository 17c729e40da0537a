"""The protocols by name, and the datasets that each reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from metarec_core.config import BenchmarkConfig
from metarec_core.evaluation.protocols import p2
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

PROTOCOLS: Mapping[str, ProtocolSpec] = {
    "p2": ProtocolSpec(
        "lists of cold users, full catalogue, MovieLens 1M",
        {ML_1M: "ml-1m"},
        lambda corpora, config: p2.studies(corpora[ML_1M], config),
        ("ndcg_at_10", "recall_at_20"),
    ),
}
