"""The gate's rule, case by case, and what must hold whatever the figures."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metarec_core.config.tree import GateConfig
from metarec_core.evaluation import Contestant, Demand, Verdict, decide
from metarec_core.evaluation.compare import MIN_USERS
from metarec_core.schema import Feedback

CONFIG = GateConfig(resamples=200)


@pytest.fixture
def contestant(make_tasks):
    def make(name: str, *, content_hash: str = "", **figures: object) -> Contestant:
        return Contestant(name, make_tasks(name, **figures), content_hash=content_hash)

    return make


@pytest.fixture
def baselines(contestant) -> list[Contestant]:
    return [contestant("popularity", ndcg=0.40, mae=None), contestant("bias", ndcg=0.30, mae=0.75)]


def judge(
    challenger: Contestant,
    baselines: list[Contestant],
    champion: Contestant | None = None,
    *,
    feedback: Feedback = Feedback.EXPLICIT,
    config: GateConfig = CONFIG,
) -> Verdict:
    return decide(challenger, baselines, champion, feedback=feedback, config=config, seed=3)


def test_a_better_challenger_becomes_the_first_champion(contestant, baselines) -> None:
    verdict = judge(contestant("gaussian", ndcg=0.45, mae=0.72), baselines)
    assert (verdict.verdict, verdict.promoted, verdict.winner) == ("promoted", True, "gaussian")
    assert all(comparison.passed for comparison in verdict.comparisons)
    overall = [c for c in verdict.comparisons if c.support_size is None]
    assert [(c.metric, c.opponent, c.demand) for c in overall] == [
        ("mae", "bias", Demand.BETTER),
        ("ndcg_at_10", "popularity", Demand.BETTER),
    ]
    assert f"against bias's {overall[0].opponent_value:.4f}" in verdict.reason
    assert "60 users" in verdict.reason
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict


@pytest.mark.parametrize(
    ("ndcg", "mae", "failing"),
    [(0.36, 0.72, "NDCG@10"), (0.45, 0.78, "MAE"), (0.45, None, "MAE")],
)
def test_a_first_night_that_a_baseline_wins_goes_to_the_best_of_them(
    contestant, baselines, ndcg, mae, failing
) -> None:
    verdict = judge(contestant("gaussian", ndcg=ndcg, mae=mae), baselines)
    assert (verdict.verdict, verdict.promoted, verdict.winner) == ("promoted", True, "popularity")
    assert verdict.reason.startswith(f"gaussian is not promoted: {failing}")
    assert "popularity, the baseline with the best NDCG@10, becomes champion" in verdict.reason


def test_a_first_night_without_proof_goes_to_the_best_lists(contestant, baselines) -> None:
    """Far better lists and equal forecasts: nobody is replaced, so nothing need be proven."""
    unproven = contestant("gaussian", ndcg=0.45, mae=0.75)
    verdict = judge(unproven, baselines)
    assert (verdict.verdict, verdict.promoted, verdict.winner) == ("promoted", True, "gaussian")
    assert "becomes the first champion" in verdict.reason
    assert "Not proven: MAE" in verdict.reason
    # Where somebody reigns, the same challenger is kept back.
    reigning = judge(unproven, baselines, contestant("gaussian", ndcg=0.40, mae=0.75, seed=5))
    assert (reigning.verdict, reigning.promoted) == ("kept", False)


def test_a_loss_at_one_support_size_is_not_paid_by_the_others(contestant, baselines) -> None:
    uneven = contestant("gaussian", ndcg=0.45, mae=0.72, ndcg_at={0: -0.10, 20: 0.10})
    verdict = judge(uneven, baselines, contestant("popularity", ndcg=0.39, mae=None, seed=5))
    assert verdict.winner == "popularity"
    assert [c.support_size for c in verdict.comparisons if not c.passed][:1] == [0]
    assert "NDCG@10 at support size 0" in verdict.reason


@pytest.mark.parametrize("n_users", [1, 2, 4, MIN_USERS - 1])
def test_few_users_prove_nothing(contestant, n_users) -> None:
    """However large the gain and small the noise."""
    few = [
        contestant("popularity", ndcg=0.40, mae=None, n_users=n_users),
        contestant("bias", ndcg=0.20, mae=0.75, n_users=n_users),
    ]
    for seed in range(20):
        best = contestant("gaussian", ndcg=0.80, mae=0.30, n_users=n_users, seed=seed)
        verdict = judge(best, few)
        assert verdict.winner == "popularity"
        assert f"{n_users} user" in verdict.reason
        assert f"wanted at least {MIN_USERS}" in verdict.reason
        assert {c.support_size for c in verdict.comparisons} == {None}


def test_enough_users_err_no_more_often_than_they_say(contestant) -> None:
    """One in forty by the level; with ten users a little more may be forgiven."""
    wrong = 0
    for seed in range(300):
        pair = [
            contestant(name, ndcg=0.4, mae=None, n_users=MIN_USERS, noise=0.1, seed=seed)
            for name in ("gaussian", "popularity")
        ]
        wrong += judge(*pair[:1], pair[1:], feedback=Feedback.IMPLICIT).comparisons[0].passed
    assert wrong / 300 <= 0.05


def test_few_users_in_common_with_the_champion_show_no_loss(contestant, baselines) -> None:
    good = contestant("gaussian", ndcg=0.45, mae=0.72)
    far_better = contestant("gaussian", ndcg=0.60, mae=0.50, n_users=MIN_USERS - 1)
    verdict = judge(good, baselines, far_better)
    assert verdict.promoted
    assert "fewer than 10 users could be compared" in verdict.reason
    assert judge(good, baselines, contestant("gaussian", ndcg=0.6, mae=0.5)).verdict == "kept"


def test_an_equal_challenger_replaces_the_champion_and_a_worse_one_does_not(
    contestant, baselines
) -> None:
    champion = contestant("gaussian", ndcg=0.45, mae=0.72, seed=5)
    equal = judge(contestant("gaussian", ndcg=0.45, mae=0.72, seed=6), baselines, champion)
    assert (equal.verdict, equal.winner) == ("promoted", "gaussian")
    worse = judge(contestant("gaussian", ndcg=0.43, mae=0.72, seed=6), baselines, champion)
    assert (worse.verdict, worse.promoted, worse.winner) == ("kept", False, "gaussian")
    assert "against champion's" in worse.reason
    assert "the champion (gaussian) stays" in worse.reason
    tolerant = GateConfig(resamples=200, champion_tolerance=0.1)
    forgiven = judge(
        contestant("gaussian", ndcg=0.43, mae=0.72, seed=6), baselines, champion, config=tolerant
    )
    assert forgiven.promoted
    assert "relative loss of 10.0%" in forgiven.rule


def test_a_challenger_below_the_baselines_leaves_the_champion(contestant, baselines) -> None:
    champion = contestant("gaussian", ndcg=0.35, mae=0.72, seed=5)
    verdict = judge(contestant("gaussian", ndcg=0.38, mae=0.72), baselines, champion)
    assert (verdict.verdict, verdict.winner) == ("kept", "gaussian")


@pytest.mark.parametrize(
    ("reigning_ndcg", "same_bytes", "outcome"),
    [(0.40, False, "promoted"), (0.40, True, "kept"), (0.44, False, "kept")],
)
def test_a_baseline_that_reigns_is_followed_by_tonight_s_edition_unless_worse(
    contestant, baselines, reigning_ndcg, same_bytes, outcome
) -> None:
    tonight = contestant("popularity", ndcg=0.40, mae=None, content_hash="p2")
    old_hash = "p2" if same_bytes else "p1"
    old = contestant("popularity", ndcg=reigning_ndcg, mae=None, seed=5, content_hash=old_hash)
    verdict = judge(
        contestant("gaussian", ndcg=0.38, mae=0.72), [tonight, baselines[1]], champion=old
    )
    assert (verdict.verdict, verdict.winner) == (outcome, "popularity")
    assert verdict.promoted == (outcome == "promoted")
    if outcome == "promoted":
        assert "tonight's edition of the champion (popularity) takes its place" in verdict.reason
        last = verdict.comparisons[-1]
        assert (last.challenger, last.opponent, last.passed) == ("popularity", "champion", True)
    else:
        assert "the champion (popularity) stays" in verdict.reason


def test_a_champion_without_forecasts_is_compared_by_lists_alone(contestant, baselines) -> None:
    champion = contestant("popularity", ndcg=0.40, mae=None)
    verdict = judge(contestant("gaussian", ndcg=0.45, mae=0.72), baselines, champion)
    assert verdict.promoted
    against = [c.metric for c in verdict.comparisons if c.opponent == "champion"]
    assert against == ["ndcg_at_10"]


def test_the_same_bytes_change_nothing(contestant, baselines) -> None:
    champion = contestant("gaussian", ndcg=0.45, mae=0.72, content_hash="abc")
    verdict = judge(
        contestant("gaussian", ndcg=0.45, mae=0.72, content_hash="abc"), baselines, champion
    )
    assert (verdict.verdict, verdict.promoted) == ("unchanged", False)
    unknown = contestant("gaussian", ndcg=0.45, mae=0.72)
    assert judge(unknown, baselines, unknown).verdict == "promoted"


def test_a_champion_that_cannot_be_evaluated_gives_way_to_proof_alone(
    contestant, baselines
) -> None:
    stranger = Contestant("gaussian", None, obstacle="none of tonight's items is known to it")
    verdict = judge(contestant("gaussian", ndcg=0.45, mae=0.72), baselines, stranger)
    assert verdict.promoted
    assert "could not be evaluated: none of tonight's items" in verdict.reason
    fallen = judge(contestant("gaussian", ndcg=0.2, mae=0.72), baselines, stranger)
    assert (fallen.verdict, fallen.promoted, fallen.winner) == ("kept", False, "gaussian")
    assert "or the alias 'champion' is deleted" in fallen.reason
    baseline = judge(
        contestant("gaussian", ndcg=0.2, mae=0.72), baselines, Contestant("popularity", None)
    )
    assert (baseline.verdict, baseline.promoted) == ("kept", False)
    assert judge(contestant("gaussian", ndcg=0.9, mae=0.1), [], stranger).verdict == "kept"


def test_a_learner_alone(contestant) -> None:
    alone = contestant("gaussian", ndcg=0.1, mae=0.9)
    first = judge(alone, [])
    assert (first.verdict, first.winner, first.comparisons) == ("promoted", "gaussian", ())
    assert "no baseline that the gate asks for was trained" in first.reason
    later = judge(alone, [], contestant("gaussian", ndcg=0.4, mae=0.7, seed=2))
    assert later.verdict == "kept"


def test_implicit_feedback_counts_lists_only(contestant, baselines) -> None:
    verdict = judge(
        contestant("gaussian", ndcg=0.45, mae=None), baselines, feedback=Feedback.IMPLICIT
    )
    assert verdict.promoted
    assert {c.metric for c in verdict.comparisons} == {"ndcg_at_10"}
    assert "MAE" not in verdict.rule
    # Without its judge, whoever ranks best is first champion.
    best = judge(
        contestant("gaussian", ndcg=0.25, mae=None), baselines[1:], feedback=Feedback.IMPLICIT
    )
    assert best.winner == "bias"


def test_a_baseline_may_be_the_challenger(contestant, baselines) -> None:
    verdict = judge(baselines[1], baselines[:1])
    assert verdict.winner == "popularity"
    assert {(c.metric, c.opponent) for c in verdict.comparisons} == {("ndcg_at_10", "popularity")}


def test_no_relevant_item_at_all(contestant) -> None:
    baselines = [contestant("popularity", ndcg=None, mae=None), contestant("bias", ndcg=None)]
    verdict = judge(contestant("gaussian", ndcg=None, mae=0.6), baselines)
    assert verdict.winner == "popularity"
    assert "no user has a figure from both" in verdict.reason


@settings(max_examples=40, deadline=None)
@given(
    ndcg=st.floats(0.3, 0.5),
    mae=st.floats(0.65, 0.85),
    champion_ndcg=st.none() | st.floats(0.3, 0.5),
    n_users=st.integers(2, 30),
    seed=st.integers(0, 1000),
)
def test_invariants(make_tasks, ndcg, mae, champion_ndcg, n_users, seed) -> None:
    config = GateConfig(resamples=100)

    def named(name: str, **figures: object) -> Contestant:
        return Contestant(name, make_tasks(name, n_users=n_users, seed=seed, **figures))

    baselines = [named("popularity", ndcg=0.4, mae=None), named("bias", ndcg=0.3, mae=0.75)]
    champion = None if champion_ndcg is None else named("champ", ndcg=champion_ndcg, mae=0.74)
    challenger = named("gaussian", ndcg=ndcg, mae=mae)
    verdict = judge(challenger, baselines, champion, config=config)
    passed = all(comparison.passed for comparison in verdict.comparisons)
    if champion is not None:
        assert (verdict.winner == "gaussian") == passed
    elif passed:
        assert verdict.winner == "gaussian"
    assert verdict.promoted == (verdict.verdict == "promoted")
    if champion is not None and not passed:
        assert verdict.verdict == "kept"
    for comparison in verdict.comparisons:
        assert comparison.low <= comparison.difference <= comparison.high
    # Rows in another order are the same evidence.
    shuffled = Contestant("gaussian", challenger.frame.reverse())
    assert judge(shuffled, baselines, champion, config=config) == verdict
    # Whoever gets better in everything is not judged more harshly.
    better = Contestant(
        "gaussian",
        challenger.frame.with_columns(pl.col("ndcg_at_10") + 0.05, pl.col("mae") - 0.05),
    )
    improved = judge(better, baselines, champion, config=config)
    for before, after in zip(verdict.comparisons, improved.comparisons, strict=True):
        assert after.passed or not before.passed


def test_the_verdict_says_whom_the_challenger_beats(contestant, baselines) -> None:
    """Members of an average among them: whether it pays is told, and decides nothing."""
    equal = contestant("gaussian", ndcg=0.45, mae=0.72)
    average = contestant("average", ndcg=0.45, mae=0.72)

    verdict = judge(average, [*baselines, equal])

    assert verdict.winner == "average"
    assert {(c.metric, c.opponent, c.passed) for c in verdict.peers} == {
        ("mae", "bias", True),
        ("mae", "gaussian", False),
        ("ndcg_at_10", "popularity", True),
        ("ndcg_at_10", "bias", True),
        ("ndcg_at_10", "gaussian", False),
    }
    assert "In MAE average is shown to beat bias, not gaussian (" in verdict.remark
    assert "In NDCG@10 average is shown to beat popularity, bias, not gaussian (" in verdict.remark
    alone = judge(average, baselines)
    assert "shown to beat each other learner (popularity, bias)" in alone.remark
