from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metarec_core.errors import ModelError
from metarec_core.features.encoder import FeatureEncoder
from metarec_core.features.fitted import FitSettings
from metarec_core.features.spec import FeatureSpec
from metarec_core.schema import FeatureKind


def spec(kind: FeatureKind) -> FeatureSpec:
    return FeatureSpec(column="c", kind=kind)


SPECS = {
    "age": spec(FeatureKind.NUMERIC),
    "job": spec(FeatureKind.CATEGORICAL),
    "tags": spec(FeatureKind.MULTI),
    "plot": spec(FeatureKind.TEXT),
}
TRAIN = pl.DataFrame(
    {
        "age": [10.0, 20.0, 60.0, None],
        "job": ["cook", "cook", "baker", None],
        "tags": [["x", "y"], ["x"], ["z"], []],
        "plot": ["a red fox runs", "the red dog runs", "a blue fox", None],
    },
    schema_overrides={"tags": pl.List(pl.String)},
)


@pytest.fixture(scope="module")
def encoder() -> FeatureEncoder:
    return FeatureEncoder.fit(TRAIN, SPECS, seed=1)


def encoded(encoder: FeatureEncoder, frame: pl.DataFrame) -> list[dict[str, float]]:
    rows = encoder.encode(frame)
    return [dict(zip(encoder.names, map(float, row), strict=True)) for row in rows]


def test_names_say_what_each_column_holds(encoder: FeatureEncoder) -> None:
    assert encoder.names == [
        "age",
        "age:missing",
        "job=cook",
        "job:other",
        "job:missing",
        "tags=x",
        "tags:other",
        "tags:missing",
        "plot:svd0",
        "plot:svd1",
        "plot:missing",
    ]


def test_training_rows_encode_as_stated(encoder: FeatureEncoder) -> None:
    first, _, third, gap = encoded(encoder, TRAIN)
    assert first["age"] == pytest.approx((10 - 30) / np.std([10, 20, 60]))
    assert (first["job=cook"], third["job:other"]) == (1.0, 1.0)
    assert (first["tags=x"], first["tags:other"], third["tags=x"]) == (1.0, 1.0, 0.0)
    assert gap["age"] == pytest.approx((20 - 30) / np.std([10, 20, 60]))
    assert gap["age:missing"] == gap["job:missing"] == gap["tags:missing"] == 1.0
    assert (gap["plot:missing"], gap["plot:svd0"], first["plot:missing"]) == (1.0, 0.0, 0.0)


def test_a_new_user_without_any_feature_encodes_like_a_row_of_gaps(
    encoder: FeatureEncoder,
) -> None:
    bare = encoder.encode(pl.DataFrame({"user_id": ["new"]}))
    np.testing.assert_array_equal(bare, encoder.encode(TRAIN)[3:])
    assert encoder.encode(pl.DataFrame({"user_id": []})).shape == (0, len(encoder.names))


def test_what_training_never_showed_encodes_as_the_average_row() -> None:
    whole = TRAIN.head(2).with_columns(age=pl.Series([10.0, 30.0]))
    encoder = FeatureEncoder.fit(whole, SPECS, seed=1, detail=FitSettings(min_count=1))
    new = encoder.encode(pl.DataFrame({"job": ["never seen"]}))
    np.testing.assert_allclose(new[0], encoder.encode(whole).mean(axis=0), atol=1e-6)
    flags = [place for place, name in enumerate(encoder.names) if ":missing" in name]
    assert not new[0, flags].any()


def test_loose_types_of_a_daytime_frame_are_understood(encoder: FeatureEncoder) -> None:
    strict = pl.DataFrame({"age": [20.0], "job": ["cook"], "tags": [["x", "z"]], "plot": ["fox"]})
    loose = pl.DataFrame({"age": [" 20 "], "job": [" cook"], "tags": ["x| z|"], "plot": ["FOX!"]})
    from_pandas = pl.from_pandas(
        pd.DataFrame({"age": [20], "job": ["cook"], "tags": ["z|x"], "plot": ["Fox"]})
    )
    expected = encoder.encode(strict)
    for frame in (loose, from_pandas):
        np.testing.assert_array_equal(encoder.encode(frame), expected)


def test_whole_floats_are_the_categories_of_their_integers() -> None:
    specs = {"code": spec(FeatureKind.CATEGORICAL)}
    encoder = FeatureEncoder.fit(pl.DataFrame({"code": ["7", "7", "8", "8"]}), specs, seed=0)
    rows = encoder.encode(pl.DataFrame({"code": [7.0, None, float("nan"), 8.5]}))
    assert rows[0].tolist() == [1.0, 0.0, 0.0, 0.0]
    np.testing.assert_array_equal(rows[1], rows[2])


def test_garbage_is_missing_and_a_wrong_type_is_named(encoder: FeatureEncoder) -> None:
    bare = encoder.encode(pl.DataFrame({"user_id": ["new"]}))
    garbage = pl.DataFrame({"age": ["old"], "job": [" "], "tags": ["|"], "plot": [""]})
    np.testing.assert_array_equal(encoder.encode(garbage), bare)
    with pytest.raises(ModelError, match="feature job"):
        encoder.encode(pl.DataFrame({"job": [["cook"]]}))


def test_impute_fills_every_gap_and_encodes_the_same(encoder: FeatureEncoder) -> None:
    frame = TRAIN.with_columns(pl.Series("user_id", ["a", "b", "c", "d"]))
    filled = encoder.impute(frame)
    assert filled.null_count().sum_horizontal().item() == 0
    assert filled.row(3, named=True) == {
        "age": 20.0,
        "job": "(missing)",
        "tags": [],
        "plot": "",
        "user_id": "d",
        "age:missing": True,
    }
    np.testing.assert_array_equal(encoder.encode(filled), encoder.encode(frame))
    assert encoder.missing(frame) == {"age": 1, "job": 1, "tags": 1, "plot": 1}
    assert encoder.impute(pl.DataFrame({"user_id": ["x"]})).columns == [
        "user_id",
        "age",
        "age:missing",
        "job",
        "tags",
        "plot",
    ]


def test_rare_values_are_folded_and_the_most_frequent_kept() -> None:
    values = ["a"] * 5 + ["b"] * 4 + ["c"] * 3 + ["d"] + [None]
    encoder = FeatureEncoder.fit(
        pl.DataFrame({"job": values}),
        {"job": SPECS["job"]},
        seed=0,
        detail=FitSettings(min_count=2, max_values=2),
    )
    assert encoder.names == ["job=a", "job=b", "job:other", "job:missing"]
    assert encoder.encode(pl.DataFrame({"job": ["c", "d"]})).argmax(axis=1).tolist() == [2, 2]


def test_huge_and_constant_numbers_stay_finite() -> None:
    specs = {"age": SPECS["age"]}
    for values in ([1e308, -1e308, 1e300], [5.0, 5.0], [None, None], [5e-324, 0.0]):
        frame = pl.DataFrame({"age": values}, schema={"age": pl.Float64})
        encoder = FeatureEncoder.fit(frame, specs, seed=0)
        probe = pl.DataFrame({"age": [1.7e308, -1.7e308, float("nan"), float("inf"), 0.0]})
        assert np.isfinite(encoder.encode(probe)).all()
        assert np.isfinite(encoder.encode(frame)).all()


def test_text_matches_scikit_learn() -> None:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = ["fox", "dog", "red", "blue", "runs", "sleeps", "naïve", "x1"]
    generator = np.random.default_rng(3)
    plots = [" ".join(generator.choice(words, size=6)) for _ in range(40)]
    detail = FitSettings(text_dimensions=3)
    encoder = FeatureEncoder.fit(
        pl.DataFrame({"plot": plots}), {"plot": SPECS["plot"]}, seed=5, detail=detail
    )
    weights = TfidfVectorizer(min_df=2).fit_transform(plots)
    wanted = TruncatedSVD(3, random_state=5).fit(weights).transform(weights)
    ours = encoder.encode(pl.DataFrame({"plot": plots}))[:, :3]
    np.testing.assert_allclose(ours, wanted, atol=1e-4)


def test_damaged_files_are_named(tmp_path: Path, encoder: FeatureEncoder) -> None:
    encoder.save(tmp_path, "user_encoder")
    (tmp_path / "user_encoder.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError, match=r"user_encoder\.json"):
        FeatureEncoder.load(tmp_path, "user_encoder")
    with pytest.raises(ModelError, match="FileNotFoundError"):
        FeatureEncoder.load(tmp_path, "absent")


def test_no_features_is_legal(tmp_path: Path) -> None:
    encoder = FeatureEncoder.fit(TRAIN, {}, seed=0)
    encoder.save(tmp_path, "e")
    assert [path.name for path in tmp_path.iterdir()] == ["e.json"]
    assert FeatureEncoder.load(tmp_path, "e").encode(TRAIN).shape == (4, 0)


def test_serving_loads_neither_duckdb_nor_scikit_learn(
    tmp_path: Path, encoder: FeatureEncoder
) -> None:
    encoder.save(tmp_path, "e")
    script = (
        "import sys; from pathlib import Path; import polars as pl;"
        "from metarec_core.features.encoder import FeatureEncoder;"
        f"FeatureEncoder.load(Path({str(tmp_path)!r}), 'e')"
        ".encode(pl.DataFrame({'plot': ['a red fox'], 'tags': ['x']}));"
        "print(sorted({'duckdb', 'sklearn', 'scipy', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


FRAMES = st.lists(
    st.fixed_dictionaries(
        {
            "age": st.none() | st.floats(),
            "job": st.none() | st.text(max_size=4),
            "tags": st.none() | st.lists(st.text(max_size=3), max_size=3),
            "plot": st.none() | st.text(alphabet="ab é1", max_size=12),
        }
    ),
    max_size=12,
)
TYPES = {"age": pl.Float64, "job": pl.String, "tags": pl.List(pl.String), "plot": pl.String}


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(train=FRAMES, other=FRAMES)
def test_any_frame_encodes_finite_and_a_saved_encoder_encodes_the_same(
    tmp_path: Path, train: list[dict[str, object]], other: list[dict[str, object]]
) -> None:
    encoder = FeatureEncoder.fit(pl.DataFrame(train, schema=TYPES), SPECS, seed=2)
    encoder.save(tmp_path, "e")
    again = FeatureEncoder.load(tmp_path, "e")
    assert again.names == encoder.names
    assert len(set(encoder.names)) == len(encoder.names)
    for rows in (train, other):
        frame = pl.DataFrame(rows, schema=TYPES)
        matrix = encoder.encode(frame)
        assert matrix.shape == (len(rows), len(encoder.names))
        assert np.isfinite(matrix).all()
        np.testing.assert_array_equal(again.encode(frame), matrix)
        filled = encoder.impute(frame)
        assert filled.null_count().sum_horizontal().sum() == 0
        np.testing.assert_array_equal(encoder.encode(filled), matrix)


def test_parts_are_terms_as_a_whole_without_remarks() -> None:
    spec = FeatureSpec(column="c", kind="text", terms="parts", separator=",", dimensions=2)
    names = ["Ann Lee (novel), Bo Kim", "Bo Kim", "Ann Lee", None, "Ann Kim, Bo Kim", "ann lee"]
    frame = pl.DataFrame({"writers": names})
    encoder = FeatureEncoder.fit(frame, {"writers": spec}, seed=0)
    encoded = encoder.encode(frame)
    assert encoder.names == ["writers:svd0", "writers:missing"]
    # The two names that occur more than once are alike to the one dimension; 'ann' is no term.
    assert encoded[2, 0] == encoded[5, 0] == pytest.approx(2**-0.5)
    other = pl.DataFrame({"writers": ["ann, lee", "Ann Lee (play)"]})
    assert encoder.encode(other)[:, 0].tolist() == [0.0, encoded[2, 0]]
    assert encoded[3].tolist() == [0.0, 1.0]


def test_a_text_of_parts_is_saved_with_its_separator(tmp_path: Path) -> None:
    spec = FeatureSpec(column="c", kind="text", terms="parts", separator=";")
    frame = pl.DataFrame({"cast": ["a b;c", "a b", "c;d e", "d e;a b", "c"]})
    encoder = FeatureEncoder.fit(frame, {"cast": spec}, seed=0)
    encoder.save(tmp_path, "items")
    again = FeatureEncoder.load(tmp_path, "items")
    assert np.array_equal(again.encode(frame), encoder.encode(frame))
