"""A user asked about at length: against what the model gives when it is asked piece by piece."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from metarec_core.episodes.sampling import full_support
from metarec_core.episodes.types import Support
from metarec_core.features.named import NamedFeatures
from metarec_core.features.spec import FeatureSpec
from metarec_core.ranking.grid import on_grid
from metarec_core.ranking.request import Audience
from metarec_core.schema import REASON_TYPE, FeatureKind
from metarec_core.serving.audience import Translation
from metarec_core.serving.bundle import Bundle
from metarec_core.serving.portrait import WITHOUT_SCHEMA, portray

N_ITEMS = 40


@pytest.fixture(scope="module")
def named() -> NamedFeatures:
    genres = [[["War", "Drama", "Love"][item % 3]] for item in range(N_ITEMS)]
    spec = {"genres": FeatureSpec(column="g", kind=FeatureKind.MULTI)}
    columns = ["genres=Drama", "genres=Love", "genres=War"]
    return NamedFeatures.of(pl.DataFrame({"genres": genres}), spec, columns)


def known(world, user: int, candidates: np.ndarray | None = None) -> Translation:
    rows = np.array([user], dtype=np.int64)
    audience = Audience(
        world.users["user_id"][rows.tolist()],
        world.data.interactions.select(rows),
        world.data.user_features[rows],
    )
    return Translation(audience, np.arange(N_ITEMS) if candidates is None else candidates, 0, 0)


def busy_user(world) -> int:
    return int(np.flatnonzero(world.data.interactions.counts() >= 6)[0])


def open_items(world, user: int) -> list[int]:
    seen = world.data.interactions.select(np.array([user])).items
    return [item for item in range(N_ITEMS) if item not in seen]


@pytest.mark.parametrize("name", ["average", "gaussian", "amortised", "ease", "popularity"])
def test_it_says_what_each_interaction_did(
    bundles: dict[str, Bundle], world, named: NamedFeatures, name: str
) -> None:
    bundle, user = bundles[name], busy_user(world)
    entries = open_items(world, user)[:3]
    ids = bundle.catalogue["item_id"].gather(entries)
    unknown = pl.Series("item_id", ["no such"])
    found = portray(bundle, known(world, user), pl.concat([ids, unknown]), named=named, n_named=2)

    assert found.reasons.dtype == pl.List(REASON_TYPE)
    assert len(found.reasons) == 4
    assert found.reasons[3] is None
    assert found.without.schema == WITHOUT_SCHEMA
    assert found.without["item_id"].to_list() == ids.to_list()
    assert set(found.tastes["label"]) == {"War", "Drama", "Love"}

    support = full_support(world.data, np.array([user]))
    rivals = open_items(world, user)

    def places(one: Support) -> dict[int, int]:
        scores = on_grid(bundle.learner.adapt(one).scores()[0].double())
        ordered = sorted(rivals, key=lambda item: (-float(scores[item]), item))
        return {item: place for place, item in enumerate(ordered, start=1)}

    now = places(support)
    without = []
    for entry in range(support.items.shape[1]):
        mask = support.mask.clone()
        mask[0, entry] = False
        without.append(places(replace(support, mask=mask)))
    for row, item in zip(found.without.to_dicts(), entries, strict=True):
        assert row["place"] == now[item]
        farthest = max(one[item] for one in without)
        if farthest <= now[item]:
            assert row["without_item_id"] is row["place_without"] is None
            continue
        assert row["place_without"] == farthest
        left_out = bundle.catalogue["item_id"].to_list().index(row["without_item_id"])
        entry = support.items[0].tolist().index(left_out)
        assert without[entry][item] == farthest
        assert row["without_value"] == float(support.values[0, entry])


def test_reasons_sum_to_the_score_and_name_what_was_asked(
    bundles: dict[str, Bundle], world, named: NamedFeatures
) -> None:
    bundle, user = bundles["average"], busy_user(world)
    entries = open_items(world, user)[:3]
    found = portray(
        bundle,
        known(world, user),
        bundle.catalogue["item_id"].gather(entries),
        named=named,
        n_named=2,
    )
    scores = bundle.learner.adapt(full_support(world.data, np.array([user]))).scores()[0]
    for item, reasons in zip(entries, found.reasons.to_list(), strict=True):
        kinds = [one["kind"] for one in reasons]
        additive = ("item", "prior", "support", "rest", "beyond")
        total = sum(one["share"] for one in reasons if one["kind"] in additive)
        assert total == pytest.approx(float(scores[item]), abs=1e-5)
        assert kinds.count("support") == kinds.count("deletion") == 2
        features = {one["feature"] for one in reasons if one["kind"] == "feature"}
        assert features <= {"War", "Drama", "Love"}


def test_entries_that_do_not_compete_have_no_place(bundles: dict[str, Bundle], world) -> None:
    bundle, user = bundles["ials"], busy_user(world)
    entries = open_items(world, user)
    seen = int(world.data.interactions.select(np.array([user])).items[0])
    ids = bundle.catalogue["item_id"].gather([entries[0], seen, entries[1]])
    translation = known(world, user, np.array(entries[1:]))
    found = portray(bundle, translation, ids, named=None, n_named=2)
    assert found.without["item_id"].to_list() == [ids[2]]
    assert found.tastes.is_empty()
    assert found.reasons.null_count() == 0


def test_a_user_without_history_is_asked_about_too(
    bundles: dict[str, Bundle], world, named: NamedFeatures
) -> None:
    user = int(np.flatnonzero(world.data.interactions.counts() == 0)[0])
    for name in ("average", "blr", "popularity"):
        bundle = bundles[name]
        found = portray(
            bundle, known(world, user), bundle.catalogue["item_id"][:2], named=named, n_named=2
        )
        assert found.without["place_without"].null_count() == 2
        assert torch.equal(
            torch.tensor(found.tastes["mean"].to_list()),
            torch.tensor(found.tastes["usual"].to_list()),
        )


@pytest.mark.parametrize("name", ["average", "gaussian", "ease", "popularity"])
def test_lists_of_what_was_met_or_is_unknown_are_shown_too(
    bundles: dict[str, Bundle], world, named: NamedFeatures, name: str
) -> None:
    """As rules may have it that let items come again, or a model of another catalogue."""
    bundle, user = bundles[name], busy_user(world)
    met = world.data.interactions.select(np.array([user])).items[:3]
    for ids, known_items in (
        (bundle.catalogue["item_id"].gather(met), 3),
        (pl.Series("item_id", ["no such", "nor this"]), 0),
    ):
        found = portray(bundle, known(world, user), ids, named=named, n_named=2)
        assert found.without.schema == WITHOUT_SCHEMA
        assert found.without.is_empty()
        assert len(found.reasons) - found.reasons.null_count() == known_items
        assert not found.tastes.is_empty()
