"""From settings and a model to what tonight's lists are to look like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl

from metarec_core.config import RecommendConfig
from metarec_core.episodes.types import FloatArray
from metarec_core.features.spec import FeatureSpec
from metarec_core.learners.modes import PERSONALISED
from metarec_core.ranking.diversity.categories import Categories
from metarec_core.ranking.diversity.space import ItemSpace, item_space, relevant_share
from metarec_core.ranking.indexes import Indexes
from metarec_core.ranking.memory import bytes_of, tile_users
from metarec_core.ranking.reasons import ReasonDetail
from metarec_core.ranking.request import Diversity, ListSettings
from metarec_core.ranking.rules import CompiledRules, Rules, compile_rules, item_facts
from metarec_core.schema import Columns
from metarec_core.serving.audience import Translation, catalogue_positions
from metarec_core.serving.bundle import Bundle

_FOR_ITEMS = 4
"""One in so many bytes of the memory that is set may hold items prepared for search."""


def list_settings(
    config: RecommendConfig,
    bundle: Bundle,
    translation: Translation,
    *,
    diversity: Diversity | None,
    rules: CompiledRules | None,
    workers: int,
) -> ListSettings:
    """What tonight's lists are to look like.

    Args:
        config: Settings.
        bundle: The model.
        translation: Tonight's users in its words.
        diversity: The re-ranking, its strength chosen; None for none.
        rules: Tonight's rules, compiled for these users; None for none.
        workers: Shards in the works at once, which share the memory.
    """
    named, memory = bundle.named, bytes_of(config.memory_limit)
    settings = ListSettings(
        k=config.k,
        reasons=config.reasons,
        candidates=translation.candidates,
        rules=rules,
        diversity=diversity,
        relevance=bundle.relevance.get(PERSONALISED),
        detail=reason_detail(bundle, deletions=config.deletions, features=config.features),
        features=None if named is None else named.labels,
        counterfactuals=config.counterfactuals,
        indexes=Indexes(bundle.learner, memory=memory // _FOR_ITEMS),
    )
    fitting = tile_users(
        memory - memory // _FOR_ITEMS,
        bundle.learner,
        k=config.k,
        pool=settings.pool,
        reasons=config.reasons + config.deletions + config.features,
        workers=workers,
    )
    return replace(settings, tile_users=fitting)


def reason_detail(bundle: Bundle, *, deletions: int, features: int) -> ReasonDetail:
    """What reasons hold beside shares; features only where the model has words for them."""
    groups = None if bundle.named is None else bundle.named.groups()
    if groups is None:
        return ReasonDetail(deletions=deletions)
    return ReasonDetail(deletions, features, groups.to(bundle.device))


def space_of(
    bundle: Bundle,
    translation: Translation,
    items: pl.DataFrame,
    encoded: FloatArray,
    specs: Mapping[str, FeatureSpec],
    category: str | None,
) -> ItemSpace:
    """What is known of the model's items tonight.

    Args:
        bundle: The model.
        translation: Tonight's users in its words.
        items: Imputed items of the features stage, in tonight's order.
        encoded: Their encoded features, ``[I', Fi]``; items that are gone have none.
        specs: Features of items.
        category: Feature whose values are the categories; None for the first that can be.
    """
    ordered = bundle.catalogue.select(Columns.ITEM).join(
        items.drop(Columns.TITLE, strict=False), on=Columns.ITEM, how="left", maintain_order="left"
    )
    n_items = len(bundle.catalogue)
    places = catalogue_positions(items, bundle.catalogue)
    features = np.zeros((n_items, encoded.shape[1]), dtype=np.float32)
    features[places >= 0] = encoded[places[places >= 0]]
    return item_space(
        bundle.learner,
        relevant_share(translation.audience.histories, bundle.scale, n_items),
        categories=Categories.of(ordered, specs, category),
        item_features=features,
    )


def compiled_rules(
    rules: Rules,
    bundle: Bundle,
    translation: Translation,
    items: pl.DataFrame,
    *,
    run_date: date,
    k: int,
) -> CompiledRules:
    """Rules for tonight's users, in the words of the model.

    Args:
        rules: As they were declared.
        bundle: The model.
        translation: Tonight's users in its words.
        items: Imputed items of the features stage, in any order.
        run_date: The night's date.
        k: Most entries of a list.

    Raises:
        ConfigError: If rules contradict each other, or leave nothing to anybody.
    """
    return compile_rules(
        rules,
        catalogue=bundle.catalogue,
        user_ids=translation.audience.user_ids,
        histories=translation.audience.histories,
        run_date=run_date,
        k=k,
        facts=item_facts(rules, items, bundle.catalogue),
        candidates=np.asarray(translation.candidates),
    )
