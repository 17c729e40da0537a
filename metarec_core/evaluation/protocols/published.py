"""Figures to compare with: published ones, and simple methods measured on exactly this data.

Sources: MeLU (Lee et al., KDD 2019), a re-run of its PyTorch port, MAMO (Dong et al., KDD 2020) and
TaNP (Lin et al., WWW 2021) as the RecBole-MetaRec library reports them; simple methods were
measured with independent scripts. ``published`` marks what stands in a paper.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Known:
    """A figure of another method.

    Attributes:
        method: Whose.
        state: State as in our rows.
        k: Support size, None where it does not apply.
        metric: Metric as in our rows.
        value: The figure.
        published: Whether it stands in a paper.
    """

    method: str
    state: str
    k: int | None
    metric: str
    value: float
    published: bool = False


def _by_k(method: str, values: dict[int, float]) -> list[Known]:
    return [Known(method, "user_cold", k, "ndcg_at_10", value) for k, value in values.items()]


def _mae(method: str, values: dict[str, float], *, published: bool = False) -> list[Known]:
    return [Known(method, state, None, "mae", value, published) for state, value in values.items()]


def _head(
    method: str, small: tuple[float, ...], large: tuple[float, ...], *, published: bool = False
) -> list[Known]:
    metrics = ("precision_at_5", "ndcg_at_5", "mrr_at_5")
    return [
        Known(method, state, None, metric, value, published)
        for state, values in (("ml-100k", small), ("ml-1m", large))
        for metric, value in zip(metrics, values, strict=True)
    ]


def _states(*values: float) -> dict[str, float]:
    names = ("user_cold", "item_cold", "user_and_item_cold", "warm")
    return dict(zip(names, values, strict=False))


def _same(*values: float) -> dict[str, float]:
    return {f"{name}@same_tasks": value for name, value in _states(*values).items()}


PUBLISHED: dict[str, list[Known]] = {
    "p1": [
        *_mae("MeLU", _states(0.79, 0.92, 0.92, 0.75), published=True),
        *_mae("MeLU, PyTorch port", _states(0.74, 0.90, 0.89), published=True),
        *_mae("item mean", {"user_cold": 0.777, "warm": 0.777}),
        *_mae("user+item bias", _same(0.741, 0.889, 0.884, 0.738)),
        *_mae("Bayesian regression on ALS", _same(0.727, 0.888, 0.883)),
        *_mae("Bayesian regression on ALS", {"user_cold": 0.693, "warm": 0.698}),
        *_mae("first Gaussian, four averaged", _states(0.694, 0.867, 0.863)),
    ],
    "p2": [
        *_by_k("popularity", {1: 0.430, 5: 0.430, 10: 0.430, 20: 0.430}),
        *_by_k("ItemKNN", {1: 0.392, 5: 0.545, 10: 0.567, 20: 0.588}),
        *_by_k("EASE fold-in", {1: 0.323, 5: 0.484, 10: 0.550, 20: 0.606}),
        *_by_k("iALS fold-in", {1: 0.301, 5: 0.461, 10: 0.517, 20: 0.586}),
        *_by_k("first amortised Gaussian", {1: 0.485, 5: 0.549, 10: 0.573, 20: 0.598}),
        *_by_k("first average", {1: 0.490, 5: 0.564, 10: 0.593, 20: 0.627}),
    ],
    "p3": [
        *_head("random", (0.500, 0.497, 0.699), (0.505, 0.505, 0.705)),
        *_head("MeLU", (0.535, 0.533, 0.736), (0.506, 0.504, 0.702), published=True),
        *_head("MAMO", (0.610, 0.593, 0.714), (0.592, 0.608, 0.807), published=True),
        *_head("TaNP", (0.581, 0.599, 0.807), (0.604, 0.615, 0.799), published=True),
        *_head("item mean", (0.593, 0.614, 0.817), (0.623, 0.648, 0.846)),
    ],
    "p4": [],
    "p5": [],
}
"""By protocol."""


def known(protocol: str, state: str, metric: str) -> list[Known]:
    """Figures of others in a state and metric, best known method last."""
    return [
        one for one in PUBLISHED.get(protocol, []) if one.state == state and one.metric == metric
    ]
