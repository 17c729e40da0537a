"""The methods by name: adding one is a file and a line here, and its name in ``MethodName``."""

from __future__ import annotations

from collections.abc import Mapping

from metarec_core.ranking.diversity.calibrated import CALIBRATED
from metarec_core.ranking.diversity.dpp import DPP
from metarec_core.ranking.diversity.mean_variance import MEAN_VARIANCE
from metarec_core.ranking.diversity.method import Method
from metarec_core.ranking.diversity.mmr import MMR
from metarec_core.ranking.diversity.popularity import POPULARITY
from metarec_core.ranking.diversity.relevance import NONE
from metarec_core.ranking.diversity.sample import SAMPLE
from metarec_core.ranking.diversity.settings import MethodName
from metarec_core.ranking.diversity.xquad import XQUAD

METHODS: Mapping[MethodName, Method] = {
    "none": NONE,
    "mmr": MMR,
    "dpp": DPP,
    "xquad": XQUAD,
    "calibrated": CALIBRATED,
    "popularity": POPULARITY,
    "sample": SAMPLE,
    "mean_variance": MEAN_VARIANCE,
}
