"""What is published as ``p_relevant``: a probability, the same whoever else is asked about."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metarec_core.calibration.curves import IDENTITY, Affine, Isotonic
from metarec_core.calibration.relevance import (
    Basis,
    RelevanceCalibration,
    load_relevance,
    save_relevance,
)
from metarec_core.calibration.sizes import KNOTS
from metarec_core.ranking.grid import on_grid

N = len(KNOTS)
by_knot = st.lists(st.floats(-50, 50), min_size=N, max_size=N).map(tuple)
positive = st.lists(st.floats(0.01, 50), min_size=N, max_size=N).map(tuple)
numbers = st.one_of(st.floats(-10, 10), st.just(float("nan")), st.just(float("-inf")))

rows = st.lists(st.floats(0, 1), min_size=4, max_size=4).map(lambda row: tuple(sorted(row)))
curves = st.one_of(
    st.builds(Affine, shift=by_knot, slope=positive),
    st.builds(
        Isotonic,
        levels=st.lists(st.floats(-6, 6), min_size=4, max_size=4, unique=True).map(
            lambda levels: tuple(sorted(levels))
        ),
        heights=st.lists(rows, min_size=N, max_size=N).map(tuple),
    ),
)


@st.composite
def calibrations(draw: st.DrawFn) -> RelevanceCalibration:
    basis = draw(st.sampled_from(list(Basis)))
    scales = {} if basis is Basis.VALUE else {"center": draw(by_knot), "spread": draw(positive)}
    return RelevanceCalibration(
        basis=basis,
        threshold=3.5,
        low=0.5,
        high=5.5,
        curve=draw(curves),
        users=draw(st.integers(0, 10**6)),
        pairs=draw(st.integers(0, 10**9)),
        ece=draw(st.none() | st.floats(0, 1)),
        **scales,
    )


@st.composite
def asked(draw: st.DrawFn) -> dict[str, np.ndarray]:
    users, items = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    table = st.lists(numbers, min_size=users * items, max_size=users * items)
    sizes = st.lists(st.integers(0, 400), min_size=users, max_size=users)
    return {
        **{name: np.array(draw(table)).reshape(users, items) for name in ("mean", "scores")},
        "variance": np.abs(np.array(draw(table)).reshape(users, items)),
        "support_sizes": np.array(draw(sizes)),
    }


@given(calibrations(), asked())
def test_it_is_a_probability_on_the_grid_or_unknown(
    calibration: RelevanceCalibration, asked: dict[str, np.ndarray]
) -> None:
    found = calibration.p_relevant(**asked)
    known = ~np.isnan(found)
    read = "mean" if calibration.basis is Basis.VALUE else "scores"
    assert found.shape == asked["mean"].shape
    assert ((found[known] >= 0.0) & (found[known] <= 1.0)).all()
    assert np.array_equal(found[known], on_grid(found[known]))
    assert not (known & np.isnan(asked[read])).any()


@given(calibrations(), asked(), st.randoms(use_true_random=False))
def test_an_entry_does_not_depend_on_its_company(
    calibration: RelevanceCalibration, asked: dict[str, np.ndarray], random: Random
) -> None:
    whole = calibration.p_relevant(**asked)
    order = list(range(len(whole)))
    random.shuffle(order)
    shuffled = calibration.p_relevant(**{name: part[order] for name, part in asked.items()})
    assert np.array_equal(shuffled, whole[order], equal_nan=True)
    for row, column in np.ndindex(*whole.shape):
        alone = calibration.p_relevant(
            **{
                name: part[row] if name == "support_sizes" else part[row, column : column + 1]
                for name, part in asked.items()
            }
        )
        assert np.array_equal(alone, whole[row, column : column + 1], equal_nan=True)


@given(calibrations(), st.lists(st.floats(-20, 20), min_size=2, max_size=20), st.integers(0, 400))
def test_a_better_score_is_never_less_likely_relevant(
    calibration: RelevanceCalibration, scores: list[float], size: int
) -> None:
    if calibration.basis is Basis.VALUE:
        # The uncalibrated probability of a forecast rises with its mean at this variance.
        mean = np.sort(np.clip(np.array(scores) / 10.0 + 3.5, 2.0, 4.5))
    else:
        mean = np.full(len(scores), np.nan)
    found = calibration.p_relevant(
        mean=mean,
        variance=np.full(len(scores), 0.5),
        scores=np.sort(np.array(scores)),
        support_sizes=np.array(size),
    )
    assert (np.diff(found) >= 0.0).all()


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(["personalised", "content"]), calibrations()))
def test_it_is_read_as_it_was_written_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, by_mode: dict[str, RelevanceCalibration]
) -> None:
    place = tmp_path_factory.mktemp("relevance")
    save_relevance(by_mode, place / "one.json")
    again = load_relevance(place / "one.json")
    save_relevance(again, place / "other.json")
    assert again == by_mode
    assert (place / "one.json").read_bytes() == (place / "other.json").read_bytes()


def plain(**changes: object) -> RelevanceCalibration:
    fields = {
        "basis": Basis.VALUE,
        "threshold": 3.5,
        "low": 0.5,
        "high": 5.5,
        "curve": IDENTITY,
        "users": 9,
        "pairs": 99,
    }
    return RelevanceCalibration(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"threshold": 5.5}, "threshold"),
        ({"spread": (0.0,) * N}, "spread"),
        ({"center": (0.0,)}, "center"),
        ({"basis": "hope"}, "basis"),
        ({"ece": float("nan")}, "ece"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict, fault: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=fault):
        plain(**changes)


@pytest.mark.parametrize("harm", ["[]", '{"personalised": 3}', "half", '{"a": {"basis": "value"}}'])
def test_another_file_is_refused(harm: str, tmp_path: Path) -> None:
    (tmp_path / "relevance.json").write_text(harm)
    with pytest.raises(ValueError, match="validation error"):
        load_relevance(tmp_path / "relevance.json")


def test_the_file_is_plain_json(tmp_path: Path) -> None:
    save_relevance({"personalised": plain()}, tmp_path / "relevance.json")
    tree = json.loads((tmp_path / "relevance.json").read_text())
    assert tree["personalised"]["basis"] == "value"
    assert tree["personalised"]["curve"]["kind"] == "affine"


def test_support_sizes_count() -> None:
    curve = IDENTITY.model_copy(update={"slope": (0.1,) * 4 + (2.0,) * (N - 4)})
    found = plain(curve=curve).p_relevant(
        mean=np.full((3, 1), 4.5),
        variance=np.full((3, 1), 0.5),
        scores=np.zeros((3, 1)),
        support_sizes=np.array([0, 7, 300]),
    )
    assert found[0, 0] < found[1, 0] < found[2, 0]
