"""The learners by name: adding one is a file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field, create_model

from metarec_core.errors import ConfigError
from metarec_core.learners.amortised import Amortised
from metarec_core.learners.average import Average
from metarec_core.learners.base import Learner
from metarec_core.learners.bias import Bias
from metarec_core.learners.blr import Blr
from metarec_core.learners.content import Content
from metarec_core.learners.ease import Ease
from metarec_core.learners.gaussian import Gaussian
from metarec_core.learners.ials import Ials
from metarec_core.learners.item_knn import ItemKnn
from metarec_core.learners.maml import Maml
from metarec_core.learners.popularity import Popularity
from metarec_core.learners.trending import Trending
from metarec_core.section import Section

LEARNERS: Mapping[str, type[Learner]] = {
    learner.name: learner
    for learner in (
        Popularity,
        Trending,
        Bias,
        ItemKnn,
        Ease,
        Ials,
        Blr,
        Gaussian,
        Amortised,
        Content,
        Maml,
        Average,
    )
}


def learner_names() -> tuple[str, ...]:
    """Every name that ``training.learners`` may hold."""
    return tuple(LEARNERS)


def learner_class(name: str) -> type[Learner]:
    """The learner of that name.

    Raises:
        ConfigError: If there is none.
    """
    try:
        return LEARNERS[name]
    except KeyError:
        raise ConfigError(
            "training.learners",
            found=repr(name),
            wanted=f"one of {', '.join(LEARNERS)}",
            next_step="correct the name, or add the learner to metarec_core/learners/registry.py",
        ) from None


if TYPE_CHECKING:
    LearnerSettings = Section
else:
    LearnerSettings: type[BaseModel] = create_model(
        "LearnerSettings",
        __base__=Section,
        __doc__="Settings of each learner.",
        **{
            name: (
                learner.Config,
                Field(
                    default_factory=learner.Config,
                    description=(learner.Config.__doc__ or "").splitlines()[0],
                ),
            )
            for name, learner in LEARNERS.items()
        },
    )
