"""Whether reasons are true: what becomes of an entry when they are taken away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from torch import Tensor

from metarec_core.config.recommend import ExplanationConfig
from metarec_core.episodes.types import Support
from metarec_core.learners.base import Deletions, Learner, LinearPredictor
from metarec_core.ranking.blocks import blocks
from metarec_core.ranking.counterfactual import places_in
from metarec_core.ranking.request import Audience
from metarec_core.ranking.topk import top_k

METRICS_SCHEMA = pl.Schema({"metric": pl.String(), "value": pl.Float64()})
CURVES_SCHEMA = pl.Schema(
    {"curve": pl.String(), "removed": pl.Float64(), "value": pl.Float64(), "n": pl.Int64()}
)

_TOP = 3
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class ExplanationReport:
    """How true the reasons of a sample are.

    Attributes:
        metrics: ``METRICS_SCHEMA``; null where it cannot be known, as without any history.
        curves: ``CURVES_SCHEMA``: ``deletion`` and ``insertion``, and both ``at random``.
    """

    metrics: pl.DataFrame
    curves: pl.DataFrame


@torch.no_grad()
def judge_reasons(
    learner: Learner, audience: Audience, n_items: int, config: ExplanationConfig, seed: int
) -> ExplanationReport:
    """Take reasons away and see what becomes of the entries that they are for.

    - ``completeness``: largest difference between a score and the sum of its shares.
    - ``deletion_auc``, ``insertion_auc``: area under the visibility of the first entry while the
      history is taken away from the strongest reason on, or given back from it on (Petsiuk, Das
      and Saenko 2018, "RISE"). Visibility is ``1 / log2(1 + place)`` in the whole catalogue
      without the history. True reasons make the first small and the second large; ``_at_random``
      is the same in random order.
    - ``places_lost``, ``places_lost_median``, ``left_the_list``: what becomes of an entry without
      its strongest reason, of lists as long as the sample's entries.
    - ``mass_in_top_3``: share of the absolute effect of all interactions that the strongest three
      have, of users with more than three.

    The effect of an interaction is its exact share and, where a part of the score is not linear,
    its deletion. For each step the model is adapted again: nothing is approximated.

    Args:
        learner: A fitted learner; one that does not split its scores has no reasons to judge.
        audience: The users of the night.
        n_items: Size of the catalogue.
        config: How many users and entries.
        seed: Seed of the sample and of the random order.
    """
    rng = np.random.default_rng(seed)
    known = np.flatnonzero(audience.histories.counts() > 0).astype(np.int64)
    chosen = np.sort(rng.choice(known, min(config.users, len(known)), replace=False))
    found = _Found()
    if len(chosen) and n_items > 1:
        tiles = blocks(audience.histories, audience.user_features, chosen, n_columns=n_items)
        for block in tiles:
            _judge(learner, _first(block.support, len(block.users)), config, rng, found)
    return found.report(config)


class _Found:
    """What was seen so far."""

    def __init__(self) -> None:
        self.users = 0
        self.gaps: list[Tensor] = []
        self.lost: list[Tensor] = []
        self.left: list[Tensor] = []
        self.mass: list[Tensor] = []
        self.curves: dict[str, list[Tensor]] = {}

    def report(self, config: ExplanationConfig) -> ExplanationReport:
        steps = [0.0, *sorted(config.steps), 1.0]
        means = {
            name: torch.cat(parts, dim=1).mean(dim=1).tolist()
            for name, parts in sorted(self.curves.items())
        }
        lost = torch.cat(self.lost).double() if self.lost else torch.zeros(0)
        left = torch.cat(self.left).double() if self.left else torch.zeros(0)
        mass = torch.cat(self.mass) if self.mass else torch.zeros(0)
        figures: dict[str, float | None] = {
            "users": float(self.users),
            "completeness": max((float(gap.max()) for gap in self.gaps if len(gap)), default=None),
            **{
                f"{name.replace(' ', '_')}_auc": float(np.trapezoid(means[name], steps))
                for name in means
            },
            "places_lost": float(lost.mean()) if len(lost) else None,
            "places_lost_median": float(lost.median()) if len(lost) else None,
            "left_the_list": float(left.mean()) if len(left) else None,
            "mass_in_top_3": float(mass.mean()) if len(mass) else None,
        }
        curves = [
            {"curve": name, "removed": step, "value": value, "n": self.users}
            for name, values in means.items()
            for step, value in zip(steps, values, strict=True)
        ]
        return ExplanationReport(
            pl.DataFrame(list(figures.items()), schema=METRICS_SCHEMA, orient="row"),
            pl.DataFrame(curves, schema=CURVES_SCHEMA),
        )


def _judge(
    learner: Learner,
    support: Support,
    config: ExplanationConfig,
    rng: np.random.Generator,
    found: _Found,
) -> None:
    """Add what some users show."""
    predictor = learner.adapt(support)
    if not isinstance(predictor, LinearPredictor):
        return
    scores = predictor.scores().double()
    competes = torch.ones_like(scores, dtype=torch.bool)
    rows, columns = support.mask.nonzero(as_tuple=True)
    competes[rows, support.items[rows, columns]] = False
    some = competes.any(dim=1)
    items = top_k(scores.masked_fill(~competes, -torch.inf), min(config.entries, scores.shape[1]))
    effect = _effects(predictor, support, items.indices)
    found.users += int(some.sum())
    shares = predictor.shares(items.indices).total().double()
    gap = (shares - predictor.scores(items.indices).double()).abs()
    real = items.values > -torch.inf
    found.gaps.append(gap[real])
    mass = _mass(effect, support.sizes)[real]
    found.mass.append(mass[~mass.isnan()])
    _take_best(learner, support, items.indices, effect, competes, real, found)
    first, strength = items.indices[:, :1], effect[:, 0].masked_fill(~support.mask, -torch.inf)
    by_chance = torch.from_numpy(rng.random(strength.shape)).to(strength)
    by_chance = by_chance.masked_fill(~support.mask, -torch.inf)
    steps = [0.0, *sorted(config.steps), 1.0]
    for order, suffix in ((strength, ""), (by_chance, " at random")):
        # The place of each entry in the order in which reasons are taken away.
        ranks = order.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        curves = _curves(learner, support, first, competes, ranks, steps)
        for name, values in curves:
            found.curves.setdefault(name + suffix, []).append(values[:, some])


def _first(support: Support, n_users: int) -> Support:
    return Support(
        support.items[:n_users],
        support.values[:n_users],
        support.mask[:n_users],
        support.user_features[:n_users],
    )


def _effects(predictor: LinearPredictor, support: Support, items: Tensor) -> Tensor:
    """What each interaction brings each entry, exact share and deletion together, ``[B, K, S]``."""
    effect = predictor.shares(items).support.double()
    if isinstance(predictor, Deletions):
        everything = torch.arange(support.items.shape[1], device=items.device)
        effect = effect + predictor.deletions(items, everything.expand(len(items), -1))
    return effect.masked_fill(~support.mask.unsqueeze(1), 0.0)


def _mass(effect: Tensor, sizes: Tensor) -> Tensor:
    """Share of the absolute effect in the strongest three, ``[B, K]``; NaN: it says nothing."""
    strength = effect.abs()
    best = strength.topk(min(_TOP, strength.shape[2]), dim=2).values.sum(dim=2)
    total = strength.sum(dim=2)
    says = (sizes[:, None] > _TOP) & (total > _TINY)
    return torch.where(says, best / total.clamp_min(_TINY), torch.nan)


def _take_best(
    learner: Learner,
    support: Support,
    items: Tensor,
    effect: Tensor,
    competes: Tensor,
    real: Tensor,
    found: _Found,
) -> None:
    """Adapt again without the strongest reason of each entry, and see where the entry goes."""
    k = real.shape[1]
    best = effect.masked_fill(~support.mask.unsqueeze(1), -torch.inf).argmax(dim=2)
    rows = torch.arange(len(items), device=items.device)
    for place in range(k):
        mask = support.mask.clone()
        mask[rows, best[:, place]] = False
        scores = learner.adapt(replace(support, mask=mask)).scores().double()
        after = places_in(scores, items[:, place : place + 1], competes)[:, 0]
        there = real[:, place]
        found.lost.append((after - (place + 1))[there])
        found.left.append((after > k)[there])


def _curves(
    learner: Learner,
    support: Support,
    items: Tensor,
    competes: Tensor,
    ranks: Tensor,
    steps: list[float],
) -> Iterator[tuple[str, Tensor]]:
    """Visibility of one entry a user, ``[steps, B]``, as its history goes, and as it comes back."""
    sizes = support.sizes.double()

    def seen(kept: Tensor) -> Tensor:
        scores = learner.adapt(replace(support, mask=support.mask & kept)).scores().double()
        places = places_in(scores, items, competes)[:, 0].double()
        return 1.0 / torch.log2(1.0 + places)

    gone = [torch.ceil(sizes * step)[:, None] for step in steps[1:-1]]
    whole, nothing = seen(torch.ones_like(support.mask)), seen(torch.zeros_like(support.mask))
    yield "deletion", torch.stack([whole, *(seen(ranks >= count) for count in gone), nothing])
    yield "insertion", torch.stack([nothing, *(seen(ranks < count) for count in gone), whole])


def stability(now: pl.DataFrame, before: pl.DataFrame) -> pl.DataFrame:
    """How alike the reasons of entries are that were in a list of both nights.

    - ``entries_in_both``: share of tonight's entries that the other night had too, of users who
      have a list in both: who is new has none that could have stayed the same.
    - ``reasons_overlap``: of those, mean Jaccard index of the interactions named.
    - ``reasons_correlation``: mean rank correlation (Spearman) of the shares of interactions named
      in both, of entries that have two of them or more.

    Args:
        now: Tonight's lists: ``user_id``, ``item_id`` and ``reasons``.
        before: Those of another night; every list that it has of tonight's users.

    Returns:
        ``METRICS_SCHEMA``; null where there is nothing to compare.
    """
    keys = ["user_id", "item_id"]
    both = now.select(keys).join(before.select(keys), on=keys, how="semi")
    compared = now.select("user_id").join(before.select("user_id"), on="user_id", how="semi")
    named = _named(now).join(_named(before), on=[*keys, "reason"], how="full", coalesce=True)
    named = named.join(both, on=keys, how="semi")
    common = pl.col("share").is_not_null() & pl.col("share_right").is_not_null()
    by_entry = named.group_by(keys).agg(
        (common.sum() / pl.len()).alias("overlap"),
        common.sum().alias("n"),
        pl.corr(
            pl.col("share").filter(common), pl.col("share_right").filter(common), method="spearman"
        ).alias("correlation"),
    )
    ordered = by_entry.filter(pl.col("n") > 1, pl.col("correlation").is_not_nan())
    figures = {
        "entries_in_both": len(both) / len(compared) if len(compared) else None,
        "reasons_overlap": by_entry["overlap"].mean(),
        "reasons_correlation": ordered["correlation"].mean(),
    }
    return pl.DataFrame(list(figures.items()), schema=METRICS_SCHEMA, orient="row")


def _named(lists: pl.DataFrame) -> pl.DataFrame:
    """``user_id, item_id, reason, share`` of each interaction that an entry names."""
    reasons = lists.select("user_id", "item_id", "reasons").explode("reasons").drop_nulls("reasons")
    parts = reasons.select(
        "user_id",
        "item_id",
        pl.col("reasons").struct.field("kind"),
        pl.col("reasons").struct.field("item_id").alias("reason"),
        pl.col("reasons").struct.field("share"),
    )
    kept = parts.filter(pl.col("kind").is_in(["support", "deletion"]))
    return kept.group_by("user_id", "item_id", "reason").agg(pl.col("share").sum())
