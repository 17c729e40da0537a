"""What stands for items and for users where the alike are sought."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from metarec_core.episodes.types import Support
from metarec_core.learners.average import Average
from metarec_core.learners.average_weights import KNOTS
from metarec_core.learners.base import FactorLearner, FactorPredictor, Learner
from metarec_core.learners.item_item import ItemItem


def vector_learner(learner: Learner) -> Learner | None:
    """The learner whose vectors stand for items: itself, or the member that counts most.

    A learner with fewer than two dimensions cannot tell items apart. None where there is no other.
    """
    if isinstance(learner, FactorLearner):
        return learner if learner.item_factors().vectors.shape[1] > 1 else None
    if not isinstance(learner, Average):
        return None
    usual = learner.lists.usual
    with torch.no_grad():
        weights = learner.lists(torch.tensor(KNOTS, device=usual.device), usual).mean(dim=0)
    for place in weights.argsort(descending=True, stable=True).tolist():
        found = vector_learner(learner.members[place].learner)
        if found is not None:
            return found
    return None


def factor_vectors(learner: Learner) -> tuple[Tensor, str] | None:
    """Vectors of the items whose products say what is alike, and the learner that has them.

    They are centred over the items that have one: what these have in common adds the same to every
    score of a user and tells no items apart, and it would make all cosines large. An item whose
    vector is 0, of which nothing is known, stays at 0: like no other.

    Args:
        learner: A fitted learner.

    Returns:
        ``[I, d]`` float64, a copy; None from a learner without vectors.
    """
    source = vector_learner(learner)
    if source is None:
        return None
    assert isinstance(source, FactorLearner)
    with torch.no_grad():
        vectors = source.item_factors().vectors.detach().double().clone()
        known = (vectors != 0.0).any(dim=1)
        if bool(known.any()):
            vectors[known] -= vectors[known].mean(dim=0)
    return vectors, source.name


def item_vectors(learner: Learner, named: Tensor | None = None) -> tuple[Tensor, str]:
    """What stands for each item, and where it comes from.

    Those of :func:`factor_vectors`, else the centred columns of item-to-item weights, else named
    features.

    Args:
        learner: A fitted learner.
        named: Named features of the items, ``[I, G]``, for a learner that has nothing else.

    Returns:
        ``[I, d]`` float64, and its source: the name of a learner, or ``features``; ``[I, 0]`` and
        ``nothing`` where items cannot be told apart.
    """
    factors = factor_vectors(learner)
    if factors is not None:
        return factors
    found = _item_item(learner)
    if found is not None:
        # Items that the same votes speak for are alike: columns of the weights.
        return _centred(found[0].weights.mT.double()), found[1]
    if named is not None and named.shape[1]:
        return named, "features"
    return torch.zeros(0, 0, dtype=torch.float64), "nothing"


def _centred(vectors: Tensor) -> Tensor:
    return vectors - vectors.mean(dim=0)


def _item_item(learner: Learner) -> tuple[ItemItem, str] | None:
    members = [one.learner for one in learner.members] if isinstance(learner, Average) else []
    for one in (learner, *members):
        learned = getattr(one, "learned", None)
        if isinstance(learned, ItemItem):
            return learned, one.name
    return None


@dataclass(frozen=True, slots=True)
class UserVectors:
    """What stands for each user: vectors whose products are those of the users' tastes.

    A taste is what a user's scores have beside what items are given whoever asks, less its mean
    over the catalogue. With scores ``V w + a``, the columns of ``V`` centred, it is ``V w``; the
    vectors are ``R w`` with ``V = Q R``, whose products are the same, in the dimensions of ``w``
    and not those of the catalogue. Of a learner without vectors they are the tastes themselves.

    Attributes:
        learner: Who is asked: the learner whose vectors stand for items, if there is one.
        triangle: ``R``, ``[min(I, d), d]``; None where there are no vectors.
    """

    learner: Learner
    triangle: Tensor | None

    @classmethod
    @torch.no_grad()
    def of(cls, learner: Learner) -> Self:
        """Prepare a fitted learner."""
        source = vector_learner(learner)
        if source is None:
            return cls(learner, None)
        assert isinstance(source, FactorLearner)
        vectors = source.item_factors().vectors
        return cls(source, torch.linalg.qr(_centred(vectors), mode="r").R)

    def dim(self, n_items: int) -> int:
        """Dimensions of a vector, of a catalogue of this size."""
        return n_items if self.triangle is None else len(self.triangle)

    @torch.no_grad()
    def vectors(self, support: Support) -> Tensor:
        """Those of the ``B`` users of ``support``, ``[B, d]`` or ``[B, I]`` float64."""
        predictor = self.learner.adapt(support)
        if self.triangle is None:
            nobody = replace(support, mask=torch.zeros_like(support.mask))
            tastes = predictor.scores().double() - self.learner.adapt(nobody).scores().double()
            return tastes - tastes.mean(dim=1, keepdim=True)
        assert isinstance(predictor, FactorPredictor)
        vectors: Tensor = predictor.query @ self.triangle.mT
        return vectors
