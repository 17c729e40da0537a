from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from metarec_core.config import BenchmarkConfig, Config
from metarec_core.episodes.types import Support
from metarec_core.evaluation import paired_difference
from metarec_core.evaluation.protocols import p1, p2, run
from metarec_core.evaluation.protocols.corpus import Corpus
from metarec_core.evaluation.protocols.document import document, user_lists
from metarec_core.evaluation.protocols.duels import duels
from metarec_core.evaluation.protocols.references import Random
from metarec_core.evaluation.protocols.run import Lent, Results, run_studies
from metarec_core.evaluation.protocols.study import Study
from metarec_core.evaluation.protocols.table import rows
from metarec_core.learners.base import FitContext, FitReport
from metarec_core.learners.popularity import Popularity, PopularityPredictor
from metarec_core.learners.registry import learner_class

CPU = torch.device("cpu")
TINY = {"taste_dim": 2, "exposure_dim": 4, "hidden": 4, "loop": {"epochs": 3, "patience": 2}}


@pytest.fixture(scope="module")
def study(corpus: Corpus, config: BenchmarkConfig) -> Study:
    return next(iter(p2.studies(corpus, config)))


def compared(study: Study, *names: str) -> Results:
    settings = {name: learner_class(name).Config() for name in names}
    return run_studies([study], settings, device=CPU, max_support=8, max_query=8)


@pytest.fixture(scope="module")
def results(study: Study) -> Results:
    return compared(study, "popularity", "bias")


def test_rows_are_flat_and_paired(results: Results) -> None:
    found = rows(results, seed=4, resamples=500, confidence=0.95)
    assert [set(row) for row in found[:1]] == [
        {
            "learner",
            "state",
            "k",
            "metric",
            "value",
            "se",
            "best_baseline",
            "diff_low",
            "diff_high",
        }
    ]
    keys = [(row["learner"], row["state"], row["k"], row["metric"]) for row in found]
    assert len(set(keys)) == len(keys)
    by_key = dict(zip(keys, found, strict=True))
    names = {row["learner"] for row in found}
    assert names == {"random", "item_mean", "popularity", "bias"}
    values = {name: by_key[name, "user_cold", 5, "ndcg_at_10"]["value"] for name in names}
    best = max(values, key=values.__getitem__)
    assert by_key[best, "user_cold", 5, "ndcg_at_10"]["best_baseline"] is None
    (other,) = (name for name in ("random",) if name != best)
    row = by_key[other, "user_cold", 5, "ndcg_at_10"]
    frames = {
        frame["learner"][0]: frame for frame in results.frames if len(frame) and frame["k"][0] == 5
    }
    reference = paired_difference(
        frames[other],
        frames[best],
        "ndcg_at_10",
        generator=np.random.default_rng(1),
        resamples=4000,
        confidence=0.95,
    )
    assert row["best_baseline"] == best
    assert row["value"] == pytest.approx(reference.left)
    assert reference.low is not None
    assert row["diff_low"] == pytest.approx(reference.low, abs=0.03)
    assert row["diff_low"] < values[other] - values[best] < row["diff_high"]
    by_user = frames[other]["ndcg_at_10"]
    assert row["se"] == pytest.approx(float(by_user.std()) / np.sqrt(len(by_user)))  # type: ignore[arg-type]
    assert by_key[best, None, None, "tasks_per_second"]["value"] > 0


def test_a_learner_that_fails_is_named_and_the_others_go_on(
    study: Study, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Popularity, *_: object) -> FitReport:
        raise RuntimeError("lost its mind")

    monkeypatch.setattr(Popularity, "fit", broken)
    crippled = compared(study, "popularity", "bias")
    assert [(one.learner, one.message) for one in crippled.failures] == [
        ("popularity", "RuntimeError: lost its mind")
    ]
    found = rows(crippled, seed=4, resamples=200, confidence=0.95)
    assert {row["learner"] for row in found} == {"random", "item_mean", "bias"}
    whole = {
        (row["k"], row["metric"]): row["value"]
        for row in rows(results, seed=4, resamples=200, confidence=0.95)
        if row["learner"] == "bias" and row["state"]
    }
    assert whole == {
        (row["k"], row["metric"]): row["value"]
        for row in found
        if row["learner"] == "bias" and row["state"]
    }


def test_several_seeds_are_averaged_within_users_first(corpus: Corpus) -> None:
    studies = list(p2.studies(corpus, BenchmarkConfig(seeds=(1, 2))))
    both = run_studies(
        studies, {"popularity": learner_class("popularity").Config()}, device=CPU,
        max_support=8, max_query=8,
    )  # fmt: skip
    row = next(
        row
        for row in rows(both, seed=0, resamples=100, confidence=0.9)
        if row["learner"] == "popularity" and row["k"] == 5 and row["metric"] == "recall_at_20"
    )
    frame = pl.concat(
        [one for one in both.frames if one["learner"][0] == "popularity" and one["k"][0] == 5]
    )
    assert frame["study"].n_unique() == 2
    users = frame.group_by("user").agg(pl.col("recall_at_20").mean())["recall_at_20"]
    assert row["value"] == pytest.approx(users.mean())
    assert row["se"] == pytest.approx(float(users.std()) / np.sqrt(len(users)))  # type: ignore[arg-type]


def test_a_refit_repeats_the_choice(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    config = learner_class("gaussian").Config(**TINY)
    seen = []
    original = run.fit_learner

    def watched(name, config, train, validation, context: FitContext):  # type: ignore[no-untyped-def]
        outcome = original(name, config, train, validation, context)
        seen.append((config, outcome[2]))
        return outcome

    monkeypatch.setattr(run, "fit_learner", watched)
    again = replace(study, refit=study.train)
    run_studies([again], {"gaussian": config}, device=CPU, max_support=8, max_query=8)
    (_, chosen), (second, repeated) = seen
    assert chosen["loop"]["keep"] == "last"
    assert second == config.changed(chosen)
    assert second.loop.epochs == chosen["loop"]["epochs"]
    assert repeated == chosen


def test_the_document_holds_what_a_repetition_needs(
    corpus: Corpus, results: Results, study: Study
) -> None:
    config = Config(benchmark=BenchmarkConfig(learners=("popularity", "bias")))
    found = rows(results, seed=4, resamples=200, confidence=0.95)
    made = document(config, {"ml-1m-content": corpus}, results, found, [])
    assert made["protocol"] == "p2"
    assert made["rows"] == found
    assert made["seeds"] == [1]
    assert set(made["settings"]["learners"]) == {"popularity", "bias"}
    assert made["data"] == {"ml-1m-content": corpus.fingerprint}
    lists = user_lists(results)
    assert lists["seed 1"]["user_cold"] == study.user_ids["user_cold"]
    assert made["studies"]["seed 1"]["users"]["user_cold"]["count"] == len(
        lists["seed 1"]["user_cold"]
    )


def test_a_duel_is_fought_with_each_baseline(study: Study) -> None:
    config = learner_class("gaussian").Config(**TINY)
    settings = {"popularity": learner_class("popularity").Config(), "gaussian": config}
    results = run_studies([study], settings, device=CPU, max_support=8, max_query=8)
    fought = duels(results, seed=4, resamples=200, confidence=0.95)
    assert {row["learner"] for row in fought} == {"gaussian"}
    assert {row["baseline"] for row in fought} == {"random", "item_mean", "popularity"}
    means = {
        (row["learner"], row["state"], row["k"], row["metric"]): row
        for row in rows(results, seed=4, resamples=200, confidence=0.95)
    }
    for row in fought:
        place = (row["state"], row["k"], row["metric"])
        ours, theirs = means["gaussian", *place], means[row["baseline"], *place]
        assert row["difference"] == pytest.approx(ours["value"] - theirs["value"])
        assert row["low"] <= row["difference"] <= row["high"]
        if ours["best_baseline"] == row["baseline"]:
            assert row["low"] == pytest.approx(ours["diff_low"])
            assert row["high"] == pytest.approx(ours["diff_high"])


def test_chance_is_the_same_again(study: Study) -> None:
    first, second = (
        run_studies(
            [replace(study, references=(Random(3),))], {}, device=CPU, max_support=8, max_query=8
        )
        for _ in range(2)
    )
    assert all(a.equals(b) for a, b in zip(first.frames, second.frames, strict=True))


def test_who_is_made_of_others_pays_for_their_fits() -> None:
    lent = Lent()
    popularity = Popularity(Popularity.Config())

    assert lent.put("popularity", popularity, 2.0) == 2.0
    assert lent.put("bias", popularity, 3.0) == 3.0
    assert lent.get("popularity") is popularity
    assert lent.get("nobody") is None
    assert lent.put("average", popularity, 1.0) == 3.0
    assert lent.put("ease", popularity, 1.0) == 1.0
    assert set(lent) == {"popularity", "bias", "average", "ease"}


def test_a_learner_with_modes_has_rows_for_each(study: Study) -> None:
    small = {"dim": 4, "hidden": 4, "loop": {"epochs": 2, "batch_tasks": 32}}
    settings = {"amortised": learner_class("amortised").Config.model_validate(small)}
    settings["popularity"] = learner_class("popularity").Config()
    results = run_studies([study], settings, device=CPU, max_support=8, max_query=8)
    found = rows(results, seed=4, resamples=200, confidence=0.95)
    figures = {
        row["learner"]: (row["value"], row["best_baseline"])
        for row in found
        if row["k"] == 5 and row["metric"] == "recall_at_20" and row["learner"][:4] == "amor"
    }
    assert set(figures) == {"amortised", "amortised/collaborative", "amortised/content"}
    assert len({value for value, _ in figures.values()}) > 1
    assert {best for _, best in figures.values()} <= {"popularity", "random", "item_mean"}


def test_a_mode_that_fails_is_named_and_the_learner_stays(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Popularity):
        def adapt(self, support: Support) -> PopularityPredictor:
            raise RuntimeError("lost its mind")

    def in_mode(self: Popularity, mode: str) -> Popularity:
        return Broken(self.config) if mode == "content" else self

    monkeypatch.setattr(Popularity, "in_mode", in_mode, raising=False)
    results = compared(study, "popularity")
    assert [one.learner for one in results.failures] == ["popularity/content"]
    names = {row["learner"] for row in rows(results, seed=4, resamples=200, confidence=0.95)}
    assert names == {"random", "item_mean", "popularity", "popularity/collaborative"}


def test_probabilities_are_calibrated_on_validation_users_before_the_refit(
    corpus: Corpus, config: BenchmarkConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = next(iter(p1.studies(corpus, config)))
    fitted, asked = [], []
    fit, learn = run.fit_learner, run.calibrate

    def watched_fit(name, settings, train, validation, context):  # type: ignore[no-untyped-def]
        outcome = fit(name, settings, train, validation, context)
        fitted.append((outcome[0], train))
        return outcome

    def watched(learner, validation, **settings):  # type: ignore[no-untyped-def]
        asked.append((learner, validation))
        return learn(learner, validation, **settings)

    monkeypatch.setattr(run, "fit_learner", watched_fit)
    monkeypatch.setattr(run, "calibrate", watched)
    found = rows(compared(study, "bias"), seed=4, resamples=200, confidence=0.95)
    assert study.refit is not None
    (first, learned_from), (_, again) = fitted
    assert asked == [(first, study.validation)]
    assert (learned_from, again) == (study.train, study.refit)
    by_key = {(row["learner"], row["state"], row["metric"]): row["value"] for row in found}
    for metric in ("ece", "ece_uncalibrated", "ece_by_chance", "coverage_90"):
        assert 0.0 <= by_key["bias", "user_cold", metric] <= 1.0
    # A reference has no calibration: what it states is its forecast as it is.
    raw = by_key["item_mean", "user_cold", "ece_uncalibrated"]
    assert by_key["item_mean", "user_cold", "ece"] == raw


def test_lists_alone_need_no_calibration(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("nobody asks for probabilities")

    monkeypatch.setattr(run, "calibrate", never)
    assert not compared(study, "bias").failures
