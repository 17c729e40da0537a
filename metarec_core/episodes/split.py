"""Which users train, choose and judge: a stable hash of the user id, the same every night."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b

import numpy as np
import numpy.typing as npt


class Split(IntEnum):
    """Part of the users; also the code stored on disk."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2


@dataclass(frozen=True, slots=True)
class SplitFractions:
    """How large the parts were when a model was trained; kept with it.

    Attributes:
        validation: Share of users that choose.
        test: Share of users that judge.
    """

    validation: float
    test: float

    def judges(self, user_ids: Iterable[str]) -> npt.NDArray[np.bool_]:
        """Which users were test users under these fractions, ``[U]``."""
        judges: npt.NDArray[np.bool_] = (
            split_users(user_ids, self.validation, self.test) == Split.TEST
        )
        return judges


# Not a setting: whatever seed tonight has, nobody changes sides while the fractions stay.
_SALT = b"metarec-split"


def position(user_id: str) -> float:
    """Place of a user in [0, 1), by a hash of the id."""
    digest = blake2b(user_id.encode(), digest_size=8, salt=_SALT[:16]).digest()
    return int.from_bytes(digest, "big") / 2**64


def split_users(
    user_ids: Iterable[str], validation_fraction: float, test_fraction: float
) -> npt.NDArray[np.int8]:
    """Split code of each user, ``[U]``.

    Test users lie at the low end of the hash, validation users at the high end: changing one
    fraction moves no user between the other two parts. Raising the test fraction does make test
    users of former training users, whom an older model may have been trained on: it is judged
    on those alone that were test users then as well (:meth:`SplitFractions.judges`).
    """
    places = np.fromiter((position(user) for user in user_ids), dtype=np.float64)
    codes = np.full(len(places), Split.TRAIN, dtype=np.int8)
    codes[places < test_fraction] = Split.TEST
    codes[places >= 1.0 - validation_fraction] = Split.VALIDATION
    return codes
