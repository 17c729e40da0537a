"""Which signals a model listens to: all of them, interactions alone, or features alone."""

from __future__ import annotations

from typing import Literal, Protocol, get_args, runtime_checkable

from metarec_core.errors import ModelError
from metarec_core.learners.base import Learner

Mode = Literal["personalised", "collaborative", "content"]
"""``personalised``: all signals that the model was trained with; ``collaborative``: interactions
alone, without features of users and items; ``content``: features alone, so that an item is known by
its content, also where it is part of a support."""

MODES: tuple[Mode, ...] = get_args(Mode)
PERSONALISED: Mode = "personalised"
COLLABORATIVE: Mode = "collaborative"


_APART = "/"


def labelled(name: str, mode: Mode) -> str:
    """What a learner in a mode is called beside itself."""
    return f"{name}{_APART}{mode}"


def unlabelled(label: str) -> str:
    """The learner's own name."""
    return label.partition(_APART)[0]


@runtime_checkable
class ModalLearner(Learner, Protocol):
    """A learner that can leave signals aside after training."""

    def in_mode(self, mode: Mode) -> Learner:
        """The same model with other signals; tensors are shared.

        Raises:
            ModelError: If it was not trained for that mode.
        """
        ...


def in_mode(learner: Learner, mode: str) -> Learner:
    """A fitted learner that listens to the signals of ``mode`` alone.

    Args:
        learner: Any learner; every one answers ``personalised``, which changes nothing, and one
            whose class says ``reads_features = False`` answers ``collaborative`` likewise.
        mode: One of :data:`MODES`.

    Raises:
        ModelError: If there is no such mode, or the learner cannot leave signals aside.
    """
    known = next((each for each in MODES if each == mode), None)
    if known is None:
        raise ModelError(
            "parameter mode",
            found=repr(mode),
            wanted=f"one of {', '.join(MODES)}",
            next_step=f"ask for mode={PERSONALISED!r}, which uses all that the model knows",
        )
    if known == PERSONALISED:
        return learner
    if known == COLLABORATIVE and not getattr(learner, "reads_features", True):
        return learner
    if not isinstance(learner, ModalLearner):
        raise ModelError(
            f"parameter mode of a model by learner {learner.name}",
            found=repr(mode),
            wanted=f"{PERSONALISED!r}: this learner cannot leave signals aside",
            next_step="ask without mode, or train learner 'amortised', which has every mode",
        )
    return learner.in_mode(known)
