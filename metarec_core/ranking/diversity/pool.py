"""The candidates of a batch of users."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from metarec_core.episodes.types import IntArray
from metarec_core.errors import ModelError

BoolArray = npt.NDArray[np.bool_]
DoubleArray = npt.NDArray[np.float64]

_KEY_SALT = b"metarec-sample"


@dataclass(frozen=True, slots=True)
class Pool:
    """The best ``P`` items of each of ``B`` users, best first, and what is known of the users.

    Attributes:
        items: Catalogue indices, ``[B, P]`` int64; -1 behind the last candidate.
        scores: List scores, ``[B, P]`` float64, descending; equal ones by catalogue index; -inf
            where there is no item.
        history: Items of each user's support, ``[B, S]`` int64; anything at padding.
        history_mask: True where an entry is real, ``[B, S]`` bool.
        covariance: Of the scores under the posterior, ``[B, P, P]`` float64, finite everywhere;
            None from a learner that has none.
        users: A key of each user, ``[B]`` int64, such as :func:`user_keys`; ``sample`` draws by it.
        liked: Which entries of the history speak of the user's taste, ``[B, S]`` bool, see
            :func:`metarec_core.ranking.diversity.taste.liked`; None: all that are real.

    Raises:
        ModelError: If shapes do not belong together, scores are NaN, infinite or not in order, or
            the covariance is not finite.
    """

    items: IntArray
    scores: DoubleArray
    history: IntArray
    history_mask: BoolArray
    covariance: DoubleArray | None = None
    users: IntArray | None = None
    liked: BoolArray | None = None

    def __post_init__(self) -> None:
        fault = self._fault()
        if fault is not None:
            raise ModelError(
                "candidate pool",
                found=fault,
                wanted="finite scores of distinct items, best first, equal ones by catalogue "
                "index, with -1 and -inf behind the last candidate",
                next_step="take items and scores from one ranking of one learner; where scores are "
                "not numbers train the learner again with a lower learning rate",
            )

    def _fault(self) -> str | None:
        shapes = {
            "items": (self.items.shape, self.scores.shape),
            "history": (self.history.shape, self.history_mask.shape),
            "history rows": (self.history.shape[:1], self.items.shape[:1]),
        }
        if self.covariance is not None:
            shapes["covariance"] = (self.covariance.shape, (*self.items.shape, self.items.shape[1]))
        if self.users is not None:
            shapes["users"] = (self.users.shape, self.items.shape[:1])
        if self.liked is not None:
            shapes["liked"] = (self.liked.shape, self.history.shape)
        for name, (found, wanted) in shapes.items():
            if found != wanted:
                return f"{name} of shape {found}, not {wanted}"
        there = self.items >= 0
        if np.isnan(self.scores).any() or np.isposinf(self.scores).any():
            return "scores that are NaN or infinite"
        if not np.array_equal(there, self.scores > -np.inf):
            return "items without a score, or scores without an item"
        worse = self.scores[:, 1:] < self.scores[:, :-1]
        tied = (self.scores[:, 1:] == self.scores[:, :-1]) & (
            self.items[:, 1:] > self.items[:, :-1]
        )
        if not (worse | tied | ~there[:, 1:]).all() or (there[:, 1:] & ~there[:, :-1]).any():
            return "scores out of order"
        if self.covariance is not None and not np.isfinite(self.covariance).all():
            return "a covariance that is NaN or infinite"
        return None

    @property
    def taste_mask(self) -> BoolArray:
        """Entries of the history that the user's taste is read from, ``[B, S]``."""
        return self.history_mask if self.liked is None else self.liked & self.history_mask

    @property
    def counts(self) -> IntArray:
        """Candidates of each user, ``[B]``."""
        counts: IntArray = (self.items >= 0).sum(axis=1)
        return counts

    def ranked(self, positions: IntArray) -> IntArray:
        """Catalogue indices at ``positions`` ``[B, K]``; -1 where a position is -1."""
        chosen = np.take_along_axis(self.items, np.maximum(positions, 0), axis=1)
        return np.where(positions >= 0, chosen, -1)


def user_keys(user_ids: Iterable[str]) -> IntArray:
    """A hash of each user id, ``[U]`` int64, the same on every machine and in every batch."""
    digests = (blake2b(user.encode(), digest_size=8, salt=_KEY_SALT).digest() for user in user_ids)
    return np.frombuffer(b"".join(digests), dtype="<i8").astype(np.int64)
