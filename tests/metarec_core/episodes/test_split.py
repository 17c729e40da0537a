"""Users keep their part from night to night."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from metarec_core.episodes.split import Split, SplitFractions, split_users

IDS = [str(number) for number in range(4000)]


def test_shares_are_as_asked() -> None:
    codes = split_users(IDS, 0.1, 0.2)
    shares = np.bincount(codes, minlength=3) / len(codes)
    np.testing.assert_allclose(shares, [0.7, 0.1, 0.2], atol=0.02)


def test_a_user_s_part_depends_on_the_id_alone() -> None:
    codes = dict(zip(IDS, split_users(IDS, 0.1, 0.1), strict=True))
    again = dict(zip(reversed(IDS), split_users(reversed(IDS), 0.1, 0.1), strict=True))
    assert codes == again
    # Recorded: a change of the hash would put training users of old champions among the judges.
    assert [int(code) for code in split_users([f"u{i}" for i in range(20)], 0.3, 0.3)] == RECORDED


RECORDED = [2, 1, 1, 1, 0, 0, 0, 1, 2, 2, 2, 1, 1, 0, 0, 1, 1, 1, 2, 1]


@given(st.floats(0.01, 0.4), st.floats(0.01, 0.4))
def test_more_validation_users_leave_test_users_alone(small: float, large: float) -> None:
    small, large = sorted((small, large))
    few, many = split_users(IDS[:300], small, 0.2), split_users(IDS[:300], large, 0.2)
    assert ((few == Split.TEST) == (many == Split.TEST)).all()
    assert ((few == Split.VALIDATION) <= (many == Split.VALIDATION)).all()


def test_users_who_judge_under_both_fractions_were_never_trained_on() -> None:
    old, tonight = SplitFractions(0.1, 0.1), SplitFractions(0.05, 0.3)
    both = old.judges(IDS) & tonight.judges(IDS)
    # Raising the fraction made judges of users that the old model was trained on.
    trained = split_users(IDS, old.validation, old.test) == Split.TRAIN
    assert (tonight.judges(IDS) & trained).any()
    assert not (both & trained).any()
    assert both.sum() == old.judges(IDS).sum()
