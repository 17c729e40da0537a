"""Similar items and users of a bundle, against cosines made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from metarec_core.episodes.sampling import full_support
from metarec_core.errors import ConfigError, ModelError
from metarec_core.features.named import NamedFeatures
from metarec_core.features.spec import FeatureSpec
from metarec_core.ranking.request import Audience
from metarec_core.ranking.similar import SimilarConfig, nearest, nearest_streamed
from metarec_core.ranking.vectors import UserVectors
from metarec_core.schema import FeatureKind
from metarec_core.serving import neighbours
from metarec_core.serving.bundle import Bundle
from metarec_core.serving.neighbours import (
    SIMILAR_ITEMS_SCHEMA,
    SIMILAR_USERS_SCHEMA,
    similar_items,
    similar_users,
)
from metarec_core.serving.recommender import Recommender

THREE = SimilarConfig(k=3)


def audience_of_all(world) -> Audience:
    return Audience(world.users["user_id"], world.data.interactions, world.data.user_features)


def cosines(table: np.ndarray) -> np.ndarray:
    unit = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
    found = unit @ unit.T
    np.fill_diagonal(found, -np.inf)
    return found


@pytest.mark.parametrize("name", ["gaussian", "amortised", "ials", "blr", "maml"])
def test_items_are_nearest_by_their_vectors(bundles: dict[str, Bundle], name: str) -> None:
    bundle = bundles[name]
    vectors = bundle.learner.item_factors().vectors.numpy()
    table = cosines(vectors - vectors.mean(axis=0))
    asked = np.array([5, 2], dtype=np.int64)
    found = similar_items(bundle, asked, THREE)

    assert found.schema == SIMILAR_ITEMS_SCHEMA
    ids, titles = bundle.catalogue["item_id"], bundle.catalogue["title"]
    expected = [(int(row), int(near)) for row in asked for near in np.argsort(-table[row])[:3]]
    assert found.select("item_id", "similar_item_id").rows() == [
        (ids[row], ids[near]) for row, near in expected
    ]
    assert found["similar_title"].to_list() == [titles[near] for _, near in expected]
    assert found["rank"].to_list() == [1, 2, 3, 1, 2, 3]
    values = [table[row, near] for row, near in expected]
    assert found["similarity"].to_list() == pytest.approx(values, abs=1e-6)
    assert set(found["source"]) == {name}


def test_users_are_nearest_by_their_tastes(bundles: dict[str, Bundle], world) -> None:
    for name in ("amortised", "ease"):
        bundle = bundles[name]
        support = full_support(world.data, np.arange(world.data.n_users))
        nobody = replace(support, mask=torch.zeros_like(support.mask))
        scores = bundle.learner.adapt(support).scores().double()
        if name == "amortised":
            tastes = scores - bundle.learner.item_factors().appeal
        else:
            tastes = scores - bundle.learner.adapt(nobody).scores().double()
        table = cosines((tastes - tastes.mean(dim=1, keepdim=True)).numpy())
        found = similar_users(bundle, audience_of_all(world), ["007", "003"], THREE)

        assert found.schema == SIMILAR_USERS_SCHEMA
        assert found["user_id"].to_list() == ["007"] * 3 + ["003"] * 3
        best = np.sort(table[[7, 3]], axis=1)[:, ::-1][:, :3]
        assert found["similarity"].to_list() == pytest.approx(best.ravel().tolist(), abs=2e-6)
        for user, near, similarity in found.select(
            "user_id", "similar_user_id", "similarity"
        ).rows():
            assert table[int(user), int(near)] == pytest.approx(similarity, abs=2e-6)


def test_strangers_are_refused(bundles: dict[str, Bundle], world) -> None:
    with pytest.raises(ModelError, match="'nobody' not among 90 users"):
        similar_users(bundles["ials"], audience_of_all(world), ["nobody"], THREE)


def test_features_stand_in_for_vectors(bundles: dict[str, Bundle]) -> None:
    bundle = bundles["popularity"]
    with pytest.raises(ModelError, match="neither vectors nor named features"):
        similar_items(bundle, np.array([0]), THREE)
    genres = [["War"] if item % 4 == 0 else ["Drama", "Love"] for item in range(40)]
    spec = {"genres": FeatureSpec(column="g", kind=FeatureKind.MULTI)}
    named = NamedFeatures.of(pl.DataFrame({"genres": genres}), spec)
    found = similar_items(replace(bundle, named=named), np.array([8]), THREE)
    assert found["similar_item_id"].to_list() == ["100", "104", "112"]
    assert set(found["source"]) == {"features"}


def test_a_model_answers_by_frames(bundles: dict[str, Bundle], world) -> None:
    model = Recommender(bundles["ials"])
    items = model.similar(
        "similar_items", pl.DataFrame({"item_id": ["103", "no such", "101"]}), k=2
    )
    assert items["item_id"].to_list() == ["101", "101", "103", "103"]
    expected = similar_items(bundles["ials"], np.array([1, 3]), SimilarConfig(k=2))
    assert items.equals(expected)

    rows = world.rows([3, 7, 11])
    users = model.similar("similar_users", rows, k=5)
    together = users.group_by("user_id", maintain_order=True).agg("similar_user_id")
    names = rows["user_id"].unique(maintain_order=True).to_list()
    assert together["user_id"].to_list() == names
    for user, near in together.rows():
        assert sorted(near) == sorted(set(names) - {user})


@pytest.mark.parametrize(
    ("task", "frame", "k", "kind", "message"),
    [
        ("simlar_items", {"item_id": ["101"]}, 3, ConfigError, "wanted one of recommend, similar"),
        ("similar_items", {"item_id": ["101"]}, 0, ConfigError, "parameter k"),
        ("similar_items", {"item_id": ["101"]}, "3", ConfigError, "a whole number"),
        ("similar_items", {"user_id": ["1"]}, 3, ModelError, "no column 'item_id'"),
        (
            "similar_users",
            {"item_id": ["101"], "rating": [3.0]},
            3,
            ModelError,
            "no column 'user_id'",
        ),
    ],
)
def test_requests_that_make_no_sense_are_refused(
    bundles: dict[str, Bundle], task: str, frame: dict, k: object, kind: type, message: str
) -> None:
    with pytest.raises(kind, match=message):
        Recommender(bundles["ials"]).similar(task, pl.DataFrame(frame), k=k)


@pytest.mark.parametrize("name", ["amortised", "average", "item_knn", "popularity"])
def test_users_are_the_same_whether_all_are_held_or_some(
    bundles: dict[str, Bundle], world, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, everyone = bundles[name], audience_of_all(world)
    some = ["007", "003", "088", "007"]
    held = [similar_users(bundle, everyone, wanted, THREE) for wanted in (some, None)]
    dim = UserVectors.of(bundle.learner).dim(40)
    asked: list[int] = []
    shown: list[int] = []

    def watched(queries, vectors, k, *, own):
        asked.append(len(queries))
        parts = list(vectors)
        shown.extend(len(rows) for rows, _ in parts)
        return nearest_streamed(queries, parts, k, own=own)

    monkeypatch.setattr(neighbours, "nearest_streamed", watched)
    monkeypatch.setattr(neighbours, "_HELD", 25 * dim)
    monkeypatch.setattr(neighbours, "_SHOWN", 20 * dim)
    streamed = [similar_users(bundle, everyone, wanted, THREE) for wanted in (some, None)]
    assert asked == [3, 25, 25, 25, 15]
    # A part ends with the block that fills it.
    assert max(shown) < 20 + 32
    assert sum(shown) == 5 * 90
    for one, other in zip(streamed, held, strict=True):
        assert one.equals(other)


def test_item_vectors_are_taken_apart_once(
    bundles: dict[str, Bundle], world, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    factorise = torch.linalg.qr
    monkeypatch.setattr(
        torch.linalg, "qr", lambda *parts, **named: taken.append(1) or factorise(*parts, **named)
    )
    similar_users(bundles["ials"], audience_of_all(world), ["007"], THREE)
    assert len(taken) == 1


def test_nobody_is_given_room_for_more_neighbours_than_there_are(
    bundles: dict[str, Bundle], world, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def watched(queries, vectors, k, **named):
        asked.append(k)
        return nearest(queries, vectors, k, **named)

    monkeypatch.setattr(neighbours, "nearest", watched)
    most = SimilarConfig(k=1000)
    items = similar_items(bundles["ials"], np.array([5]), most)
    users = similar_users(bundles["ials"], audience_of_all(world), ["007"], most)
    assert asked == [40, 90]
    assert (len(items), len(users)) == (39, 89)
