"""An approximate index of vectors, where the optional library is installed."""

from __future__ import annotations

import importlib
import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor

logger = logging.getLogger(__name__)

_LIBRARY = "usearch.index"


def approximate(vectors: Tensor, queries: Tensor, k: int) -> Tensor | None:
    """Rows of about the ``k`` vectors with the largest inner product with each query.

    A hierarchical navigable small world graph (Malkov and Yashunin 2018) in half precision, built
    and searched by one thread: with more the graph depends on their timing.

    Args:
        vectors: Of unit length, ``[N, d]``.
        queries: Of unit length, ``[Q, d]``.
        k: How many.

    Returns:
        ``[Q, k]``, -1 where fewer were found; None, with a warning, where ``usearch`` is not
        installed.
    """
    try:
        library: Any = importlib.import_module(_LIBRARY)
    except ImportError:
        logger.warning(
            "usearch is not installed: %d vectors are compared one by one, which is exact and "
            "slower; install it with: pip install 'metarec[usearch]'",
            len(vectors),
        )
        return None
    index = library.Index(ndim=vectors.shape[1], metric="ip", dtype="f16")
    index.add(np.arange(len(vectors)), vectors.float().cpu().numpy(), threads=1)
    found = index.search(np.atleast_2d(queries.float().cpu().numpy()), k, threads=1)
    keys = np.asarray(found.keys).reshape(len(queries), -1).astype(np.int64)
    rows = np.full((len(queries), k), -1, dtype=np.int64)
    counts = np.atleast_1d(np.asarray(getattr(found, "counts", keys.shape[1])))
    there = np.arange(keys.shape[1]) < np.broadcast_to(counts, (len(queries),))[:, None]
    rows[:, : keys.shape[1]] = np.where(there, keys, -1)
    return torch.from_numpy(rows).to(queries.device)
