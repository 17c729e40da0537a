"""Named features: groups of items in words, and which encoded columns stand for them."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from metarec_core.errors import ModelError
from metarec_core.features.encoder import FeatureEncoder
from metarec_core.features.named import MOST_VALUES, SCHEMA, NamedFeatures
from metarec_core.features.spec import FeatureSpec
from metarec_core.schema import FeatureKind

SPECS = {
    "genres": FeatureSpec(column="g", kind=FeatureKind.MULTI),
    "language": FeatureSpec(column="l", kind=FeatureKind.CATEGORICAL),
    "year": FeatureSpec(column="y", kind=FeatureKind.NUMERIC),
    "runtime": FeatureSpec(column="r", kind=FeatureKind.NUMERIC),
    "directors": FeatureSpec(column="d", kind=FeatureKind.TEXT, terms="parts", separator=";"),
    "plot": FeatureSpec(column="p", kind=FeatureKind.TEXT),
}


@pytest.fixture(scope="module")
def raw() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "item_id": [f"{row}" for row in range(8)],
            "title": [f"Film {row}" for row in range(8)],
            "genres": [["War", "Comedy"], ["War"], ["War", "War"], [], None, ["Odd"], ["War"], []],
            "language": ["en", "en", "fr", "fr", None, "en", "de", ""],
            "year": [1991.0, 1999.0, 2000.0, 1989.0, None, 1990.0, 2003.0, 2009.0],
            "runtime": [60.0, 80.0, 90.0, 95.5, None, 100.0, 120.0, 200.0],
            "directors": ["Ann; Bob", "Ann", "Bob (as B.)", "", None, "Ann ;Ann", "Cid", "Bob"],
            "plot": ["a story", "a tale", "a story", "", None, "a story", "x", "y"],
        }
    )


@pytest.fixture(scope="module")
def items(raw: pl.DataFrame) -> tuple[pl.DataFrame, FeatureEncoder]:
    """As the features stage writes them."""
    encoder = FeatureEncoder.fit(raw, SPECS, seed=0)
    return encoder.impute(raw), encoder


def groups(named: NamedFeatures) -> dict[tuple[str, str], list[int]]:
    rows = named.frame.filter(pl.col("items").list.len() > 0)
    return {(row["feature"], row["label"]): row["items"] for row in rows.to_dicts()}


def test_each_kind_has_its_words(items: tuple[pl.DataFrame, FeatureEncoder]) -> None:
    named = NamedFeatures.of(items[0], SPECS, min_items=2)
    assert groups(named) == {
        ("genres", "War"): [0, 1, 2, 6],
        ("language", "en"): [0, 1, 5],
        ("language", "fr"): [2, 3],
        ("year", "1990s"): [0, 1, 5],
        ("year", "2000s"): [2, 6, 7],
        ("runtime", "up to 90"): [0, 1, 2],
        ("runtime", "95.5 to 120"): [5, 6],
        ("directors", "Ann"): [0, 1, 5],
        ("directors", "Bob"): [0, 2, 7],
    }


def test_only_groups_of_enough_items_are_named(
    items: tuple[pl.DataFrame, FeatureEncoder],
) -> None:
    named = NamedFeatures.of(items[0], SPECS, min_items=3)
    assert min(map(len, groups(named).values())) == 3
    assert ("language", "fr") not in groups(named)


def test_columns_of_content_are_named_each_once(
    items: tuple[pl.DataFrame, FeatureEncoder],
) -> None:
    frame, encoder = items
    named = NamedFeatures.of(frame, SPECS, encoder.names, min_items=2)
    rows = named.groups()
    assert rows is not None
    assert rows.shape == (len(encoder.names),)
    for name, row in zip(encoder.names, rows.tolist(), strict=True):
        one = named.frame.row(row, named=True)
        value = name.partition("=")[2] or None
        assert name.startswith(one["feature"])
        assert one["label"] == value
    war = encoder.names.index("genres=War")
    assert named.labels[rows[war].item()] == "War"
    assert named.labels[rows[encoder.names.index("runtime")].item()] == "runtime"
    assert NamedFeatures.of(frame, SPECS).groups() is None


def test_means_are_means_over_the_groups(items: tuple[pl.DataFrame, FeatureEncoder]) -> None:
    named = NamedFeatures.of(items[0], SPECS, items[1].names, min_items=2)
    scores = torch.arange(8, dtype=torch.float64)
    spoken = named.spoken_of()
    means = named.means() @ scores[:, None]
    expected = [
        np.mean(groups(named)[feature, label])
        for feature, label in spoken.select("feature", "label").rows()
    ]
    assert means.squeeze(1).tolist() == pytest.approx(expected)
    assert spoken["n_items"].to_list() == [len(each) for each in groups(named).values()]
    matrix = named.matrix()
    assert matrix.shape == (8, len(spoken))
    torch.testing.assert_close(matrix.square().sum(dim=0), torch.ones(len(spoken)).double())


def test_it_is_saved_and_loaded(items: tuple[pl.DataFrame, FeatureEncoder], tmp_path: Path) -> None:
    named = NamedFeatures.of(items[0], SPECS, items[1].names, min_items=2)
    named.save(tmp_path / "named.parquet")
    again = NamedFeatures.load(tmp_path / "named.parquet", 8)
    assert again.frame.equals(named.frame)
    again.save(tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "named.parquet").read_bytes()
    with pytest.raises(ModelError, match="highest item 7"):
        NamedFeatures.load(tmp_path / "named.parquet", 7)
    pl.DataFrame({"feature": ["x"]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(ModelError, match="columns"):
        NamedFeatures.load(tmp_path / "other.parquet", 8)


def test_a_feature_has_so_many_values_at_most_the_largest() -> None:
    n = MOST_VALUES + 50
    names = [[f"v{value:04d}"] for value in range(n)] + [[f"v{n - 1:04d}"]]
    frame = pl.DataFrame({"genres": names})
    named = NamedFeatures.of(frame, {"genres": SPECS["genres"]}, min_items=1)
    assert len(named.frame) == MOST_VALUES
    assert f"v{n - 1:04d}" in named.frame["label"].to_list()


def test_nothing_is_named_without_features() -> None:
    named = NamedFeatures.of(pl.DataFrame({"item_id": ["1", "2"]}), {})
    assert named.frame.schema == SCHEMA
    assert named.means().shape == (0, 2)
    assert named.matrix().shape == (2, 0)
