"""Put each user's candidates in order."""

from __future__ import annotations

import numpy as np

from metarec_core.episodes.types import IntArray
from metarec_core.errors import ConfigError, ModelError
from metarec_core.ranking.diversity.compiled import standardise
from metarec_core.ranking.diversity.method import Method, Request
from metarec_core.ranking.diversity.pool import Pool
from metarec_core.ranking.diversity.registry import METHODS
from metarec_core.ranking.diversity.settings import DiversityConfig
from metarec_core.ranking.diversity.space import ItemSpace


def rerank(
    pool: Pool, space: ItemSpace, settings: DiversityConfig, k: int, *, seed: int
) -> IntArray:
    """The first ``k`` places of each user's list.

    A list depends on the user's own candidates, history and key alone, whatever else is in the
    batch. ``settings.strength`` counts, whatever the preset: see
    :func:`metarec_core.ranking.diversity.frontier.gentle`.

    Args:
        pool: The candidates of ``B`` users.
        space: The catalogue.
        settings: Method and strength.
        k: Length of a list, at least 1.
        seed: Of every draw; the same one gives the same lists.

    Returns:
        Positions in the pool, ``[B, k]`` int64; -1 where a pool is shorter.

    Raises:
        ConfigError: If the method needs what the learner or the catalogue does not have.
        ModelError: If the pool is not of this catalogue, or ``sample`` lacks the users' keys.
    """
    found = order(pool, space, settings, seed=seed, length=k)
    return np.pad(found, ((0, 0), (0, k - found.shape[1])), constant_values=-1)


def order(
    pool: Pool,
    space: ItemSpace,
    settings: DiversityConfig,
    *,
    seed: int,
    length: int | None = None,
) -> IntArray:
    """All places of each user's list, for rules that walk down it.

    The first places are those of :func:`rerank`: no method looks ahead to the length. A greedy
    one takes time in proportion to it.

    Args:
        pool: The candidates of ``B`` users.
        space: The catalogue.
        settings: Method and strength.
        seed: Of every draw.
        length: Places to fill; None for as many as there are candidates.

    Returns:
        Positions in the pool, ``[B, min(length, P)]`` int64; -1 behind the last candidate.

    Raises:
        ConfigError: If the method needs what the learner or the catalogue does not have, or
            ``length`` is below 1.
        ModelError: If the pool is not of this catalogue, or ``sample`` lacks the users' keys.
    """
    width = pool.items.shape[1]
    if length is not None and length < 1:
        raise ConfigError(
            "length of a list", found=str(length), wanted="at least 1", next_step="ask for more"
        )
    method = METHODS[settings.method] if settings.strength > 0.0 else METHODS["none"]
    _check(pool, space, settings.method, method)
    counts = pool.counts
    standard, spread = standardise(np.where(pool.items >= 0, pool.scores, 0.0), counts)
    return method.order(
        Request(
            pool=pool,
            space=space,
            strength=settings.strength,
            length=width if length is None else min(length, width),
            seed=seed,
            counts=counts,
            standard=standard,
            spread=spread,
        )
    )


def _check(pool: Pool, space: ItemSpace, name: str, method: Method) -> None:
    highest = int(
        max(pool.items.max(initial=-1), pool.history.max(initial=-1, where=pool.history_mask))
    )
    if highest >= space.n_items:
        raise ModelError(
            "candidate pool",
            found=f"item index {highest}",
            wanted=f"indices of the item space's {space.n_items} items",
            next_step="build pool and item space from the same bundle",
        )
    lacking = None
    if method.covariance and pool.covariance is None:
        lacking = "a learner whose scores have no covariance"
        wanted, step = "gaussian, blr, amortised or average", "train one of those learners"
    elif method.categories and not space.category_names:
        lacking = "items without categories"
        wanted = "an item feature of kind multi or categorical"
        step = "describe one in the dataset's descriptor under items.features"
    elif method.vectors and space.vectors.shape[1] == 0:
        lacking = "items without vectors, features or categories"
        wanted = "something that says which items are alike"
        step = "train a learner with item vectors, or describe item features"
    if lacking is not None:
        raise ConfigError(
            f"recommend.diversity.method {name!r}",
            found=lacking,
            wanted=wanted,
            next_step=f"{step}, or choose another method",
        )
    if method is METHODS["sample"] and pool.users is None:
        raise ModelError(
            "candidate pool",
            found="no keys of its users",
            wanted="one key a user, so that draws do not depend on the batch",
            next_step="pass users=user_keys(user_ids)",
        )
