"""Modes: who has which, and what is said to those who ask for another."""

import pytest

from metarec_core.errors import ModelError
from metarec_core.learners.gaussian import Gaussian
from metarec_core.learners.modes import MODES, in_mode
from metarec_core.learners.popularity import Popularity


def test_every_learner_has_all_its_signals() -> None:
    learner = Popularity(Popularity.Config())
    assert in_mode(learner, "personalised") is learner


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "personalised"])
def test_a_learner_without_modes_refuses_others(mode: str) -> None:
    with pytest.raises(ModelError, match=f"learner gaussian: found '{mode}'.*ask without mode"):
        in_mode(Gaussian(Gaussian.Config()), mode)


def test_interactions_alone_are_all_that_some_learners_read() -> None:
    learner = Popularity(Popularity.Config())
    assert in_mode(learner, "collaborative") is learner
    with pytest.raises(ModelError, match="learner popularity: found 'content'"):
        in_mode(learner, "content")


def test_an_unknown_mode_is_named() -> None:
    with pytest.raises(ModelError, match="found 'both'; wanted one of personalised, collab"):
        in_mode(Popularity(Popularity.Config()), "both")
