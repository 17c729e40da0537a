"""From a fitted learner and the users held out of its fit to a calibration."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
import torch

from metarec_core.calibration.ask import stated_on_users
from metarec_core.calibration.fit import calibrate, calibration_of, threshold_of
from metarec_core.calibration.pairs import Pairs, basis_of, collect, held_out_tasks
from metarec_core.calibration.relevance import HEAD, NEXT, Basis
from metarec_core.calibration.reliability import standing
from metarec_core.episodes.sampling import evaluation_episodes
from metarec_core.episodes.types import ValueScale
from metarec_core.evaluation.align import align
from metarec_core.evaluation.metrics import calibration_error
from metarec_core.learners.amortised import Amortised
from metarec_core.learners.base import FitContext
from metarec_core.schema import Feedback

CPU = torch.device("cpu")
STARS = ValueScale(Feedback.EXPLICIT, 1.0, 5.0, 4.0)
N_ITEMS = 120
MakePairs = Callable[..., Pairs]
SIZES = (0, 1, 5, 20)


def test_a_forecast_that_is_too_sure_is_put_right_for_other_users(
    quality: np.ndarray, ratings_of: Callable, believer: Callable
) -> None:
    learner = believer(quality + 0.4, sd=0.3)
    by_mode = calibrate(learner, ratings_of(quality, 250, seed=1), device=CPU, seed=7)
    others = ratings_of(quality, 250, seed=2)

    def error(calibration: object) -> float:
        stated = stated_on_users(
            learner, calibration, others, np.arange(250), sizes=SIZES, max_query=32, seed=3,
            device=CPU, name="believer",
        )  # fmt: skip
        found = standing(stated)
        assert found is not None
        return found.ece

    made = by_mode["personalised"]
    raw = made.model_copy(
        update={"curve": made.curve.model_copy(update={"shift": (0.0,) * 9, "slope": (1.0,) * 9})}
    )
    assert (made.basis, made.threshold, made.low, made.high) == (Basis.VALUE, 3.5, 0.5, 5.5)
    assert made.users == 250
    assert error(raw) > 0.15
    assert error(made) < 0.04
    # It reads no features: it is its own collaborative view, and has no other.
    assert by_mode["collaborative"] is made
    assert set(by_mode) == {"personalised", "collaborative"}


def test_list_scores_of_rated_items_become_the_same_probability(
    quality: np.ndarray, ratings_of: Callable, believer: Callable
) -> None:
    learner = believer(quality, sd=None)
    made = calibrate(learner, ratings_of(quality, 120, seed=1), device=CPU, seed=7)["personalised"]
    stated = stated_on_users(
        learner, made, ratings_of(quality, 120, seed=2), np.arange(120), sizes=SIZES, max_query=32,
        seed=3, device=CPU, name="believer",
    )  # fmt: skip
    found = standing(stated)
    assert made.basis is Basis.SCORE
    assert found is not None
    assert found.ece < 0.04
    assert found.coverage is None


def test_implicit_feedback_is_asked_for_the_next_items(
    quality: np.ndarray, ratings_of: Callable, believer: Callable
) -> None:
    learner = believer(quality, sd=1.0)
    data = ratings_of(quality, 150, seed=1, implicit=True)
    made = calibrate(learner, data, device=CPU, seed=7)["personalised"]
    assert made.basis is Basis.NEXT
    others = ratings_of(quality, 150, seed=2, implicit=True)
    stated = stated_on_users(
        learner, made, others, np.arange(150), sizes=(0, 5), max_query=32, seed=3, device=CPU,
        name="believer",
    )  # fmt: skip
    # Every item stands in a head of 200: of the ten to come all are there.
    came = stated.group_by("user", "support_size").agg(pl.col("relevant").sum())
    assert N_ITEMS < HEAD
    assert came["relevant"].unique().to_list() == [NEXT]
    found = standing(stated)
    assert found is not None
    assert found.ece < 0.02
    assert stated["probability"].max() > 0.2


def test_pairs_are_those_of_the_tasks(
    quality: np.ndarray, ratings_of: Callable, believer: Callable
) -> None:
    """Against a plain loop, for a champion that knows only half of the items."""
    data = ratings_of(quality, 20, seed=4)
    own = np.where(np.arange(N_ITEMS) % 2 == 0, np.arange(N_ITEMS), -1)
    learner = align(believer(quality, sd=0.5), own)
    users = np.arange(5, 15)
    tasks = held_out_tasks(data, users, sizes=SIZES, seed=6)
    pairs = collect(
        learner, tasks, feedback=Feedback.EXPLICIT, relevant_from=STARS.relevant_from, device=CPU
    )
    expected = []
    for batch in evaluation_episodes(
        data, users, support_sizes=SIZES, max_query=32, seed=6
    ).batches(1):
        for item, value, real in zip(
            *(
                part[0].tolist()
                for part in (batch.episode.items, batch.episode.values, batch.episode.mask)
            ),
            strict=True,
        ):
            if real and item % 2 == 0:
                user, size = int(batch.users[0]), int(batch.support_size[0])
                expected.append((user, size, quality[item], quality[item], 0.25, value, value >= 4))
    found = zip(
        pairs.users, pairs.sizes, pairs.scores, pairs.mean, pairs.variance, pairs.values,
        pairs.relevant, strict=True,
    )  # fmt: skip
    assert np.array(sorted(map(tuple, found))) == pytest.approx(np.array(sorted(expected)))


def test_the_head_of_a_list_leaves_known_items_out(
    quality: np.ndarray, ratings_of: Callable, believer: Callable
) -> None:
    data = ratings_of(quality, 30, seed=4, implicit=True)
    learner = believer(quality, sd=None)
    tasks = held_out_tasks(data, np.arange(30), sizes=(20,), seed=6)
    pairs = collect(learner, tasks, feedback=Feedback.IMPLICIT, relevant_from=1.0, device=CPU)
    counts = np.unique(pairs.users, return_counts=True)[1]
    assert (counts == N_ITEMS - 20).all()
    assert np.isnan(pairs.mean).all()


def test_users_with_few_interactions_to_come_are_not_asked_for_ten(
    quality: np.ndarray, ratings_of: Callable, believer: Callable
) -> None:
    data = ratings_of(quality, 30, seed=4, implicit=True)
    short = data.interactions.select(np.arange(30))
    kept = np.concatenate([np.arange(row * 40, row * 40 + 12) for row in range(30)])
    few = type(data)(
        type(short)(np.arange(0, 361, 12), short.items[kept], short.values[kept]),
        data.user_features, data.item_features, data.scale,
    )  # fmt: skip
    assert calibrate(believer(quality, sd=1.0), few, device=CPU, seed=1) == {}


def test_the_threshold_lies_between_the_values_that_were_met() -> None:
    assert threshold_of(np.array([1.0, 2.0, 3.0, 5.0]), 4.0) == 3.5
    assert threshold_of(np.array([3.5, 4.5]), 4.0) == 3.75
    assert threshold_of(np.array([4.0, 5.0]), 4.0) == 4.0


def rated(values: np.ndarray, scale: ValueScale) -> Pairs:
    """30 users who rated 30 items each, and were forecast something near."""
    rng, n = np.random.default_rng(0), len(values)
    mean = scale.maximum - np.abs(rng.normal(0.0, 0.2, n))
    users, sizes = np.arange(n) // 30, np.full(n, 5)
    return Pairs(
        users,
        sizes,
        rng.normal(size=n),
        mean,
        np.full(n, 0.5),
        values,
        values >= scale.relevant_from,
    )


@pytest.mark.parametrize(
    ("minimum", "maximum", "relevant_from", "least_met"),
    [(1.0, 5.0, 1.0, 1), (0.0, 1.0, 1.0, 1), (1.0, 5.0, 5.0, 5)],
    ids=["everything is relevant", "thumbs that are all up", "ratings that are all the best"],
)
def test_where_nothing_irrelevant_can_be_told_apart_nothing_is_stated(
    minimum: float, maximum: float, relevant_from: float, least_met: int
) -> None:
    scale = ValueScale(Feedback.EXPLICIT, minimum, maximum, relevant_from)
    values = np.random.default_rng(1).integers(least_met, int(maximum) + 1, 900).astype(float)
    assert calibration_of(rated(values, scale), scale) is None


def test_a_learner_can_be_calibrated_where_every_value_is_relevant(
    quality: np.ndarray, ratings_of: Callable, believer: Callable
) -> None:
    data = ratings_of(quality, 60, seed=1)
    every = ValueScale(Feedback.EXPLICIT, 1.0, 5.0, 1.0)
    data = type(data)(data.interactions, data.user_features, data.item_features, every)
    for sd in (0.5, None):
        assert calibrate(believer(quality, sd=sd), data, device=CPU, seed=1) == {}


def test_thumbs_of_both_kinds_are_told_apart() -> None:
    scale = ValueScale(Feedback.EXPLICIT, 0.0, 1.0, 1.0)
    values = np.random.default_rng(1).integers(0, 2, 900).astype(float)
    made = calibration_of(rated(values, scale), scale)
    assert made is not None
    assert (made.threshold, made.low, made.high) == (0.5, -0.5, 1.5)


def test_too_few_users_leave_a_forecast_as_it_is_and_say_nothing_of_scores(
    make_pairs: MakePairs,
) -> None:
    few = make_pairs(lambda mean, _: np.full(len(mean), 0.5), n_users=15)
    made = calibration_of(few, STARS)
    assert made is not None
    assert (made.ece, made.users) == (None, 15)
    assert made.curve.shift == (0.0,) * 9
    blind = few.of(np.ones(len(few), dtype=bool))
    object.__setattr__(blind, "mean", np.full(len(few), np.nan))
    assert basis_of(blind, Feedback.EXPLICIT) is Basis.SCORE
    assert calibration_of(blind, STARS) is None
    assert calibration_of(few.of(np.zeros(len(few), dtype=bool)), STARS) is None


def test_by_support_size(make_pairs: MakePairs) -> None:
    """Without a support forecasts say nothing; with fifty interactions they are right."""

    def truth(mean: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        trust = np.log1p(sizes) / np.log1p(50)
        return 0.5 + trust * (1 / (1 + np.exp(-3 * (mean - 3.5))) - 0.5)

    made = calibration_of(make_pairs(truth, seed=1), STARS)
    other = make_pairs(truth, seed=2)
    assert made is not None
    for size in (0, 5, 50):
        part = other.of(other.sizes == size)
        assert calibration_error(part.stated_by(made), part.relevant) < 0.06
    spread = [np.std(other.of(other.sizes == size).stated_by(made)) for size in (0, 50)]
    assert spread[0] < 0.05 < 0.2 < spread[1]


def test_a_learner_with_modes_has_a_calibration_for_each(
    quality: np.ndarray, ratings_of: Callable
) -> None:
    data = ratings_of(quality, 60, seed=1)
    data = type(data)(
        data.interactions,
        np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32),
        np.random.default_rng(1).normal(size=(N_ITEMS, 2)).astype(np.float32),
        data.scale,
    )
    learner = Amortised(
        Amortised.Config.model_validate({"dim": 4, "hidden": 4, "loop": {"epochs": 2}})
    )
    learner.fit(data, data, FitContext(seed=1, device=CPU))
    by_mode = calibrate(learner, data, device=CPU, seed=1)
    assert set(by_mode) == {"personalised", "collaborative", "content"}
    assert len({made.model_dump_json() for made in by_mode.values()}) == 3


def test_the_same_seed_gives_the_same_bytes(
    quality: np.ndarray, ratings_of: Callable, believer: Callable
) -> None:
    data = ratings_of(quality, 60, seed=1)
    one, other = (calibrate(believer(quality, sd=0.4), data, device=CPU, seed=5) for _ in range(2))
    assert one == other


def test_joined_pairs_are_all_of_them(make_pairs: MakePairs) -> None:
    parts = [make_pairs(lambda mean, _: mean / 6, n_users=n, seed=n) for n in (3, 4)]
    whole = Pairs.joined(parts)
    assert len(whole) == len(parts[0]) + len(parts[1])
    assert np.array_equal(whole.of(np.arange(len(whole)) < len(parts[0])).mean, parts[0].mean)
